"""`sm-launch images build|push|list`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from sm_launch.commands.options import JobOptions, echo_json, echo_result, job_options, json_option

_flavor = click.option(
    "--flavor", type=click.Choice(["cpu", "gpu"]), default="cpu", show_default=True
)
_tag = click.option("--tag", help="Default: the git commit.")


@click.group()
def images() -> None:
    """Build, push and list the container images."""


def _region(options: JobOptions) -> str | None:
    """Where ECR is looked for."""
    return options.find("sagemaker").region


@images.command()
@_flavor
@_tag
@click.option("--base-image", help="Any Debian or Ubuntu. Default: the flavour's own.")
@click.option("--torch-index-url", help="Where torch's CPU wheels are.")
@click.option("--index-url", help="A package index instead of PyPI.")
@click.option("--ca-bundle", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--cache", help="Registry repository of the layer cache.")
@click.option("--efa", is_flag=True, help="Add libfabric and aws-ofi-nccl, for p4d, p5, p6.")
@click.option("--vllm/--no-vllm", default=None, help="vLLM in the serving image. GPU: yes.")
@click.option("--platform", default="linux/amd64", show_default=True, help="Of the images.")
@click.option("--updates", help="Another text: security updates anew. Default: the week.")
@click.option("--sbom/--no-sbom", default=True, help="A bill of materials into build/sbom.")
@json_option
def build(
    flavor: str,
    tag: str | None,
    base_image: str | None,
    torch_index_url: str | None,
    index_url: str | None,
    ca_bundle: Path | None,
    cache: str | None,
    as_json: bool,
    efa: bool,
    vllm: bool | None,
    platform: str,
    updates: str | None,
    sbom: bool,
) -> None:
    """Build both images and print their names and sizes."""
    from sm_launch import images as library

    built = library.build(
        flavor,
        tag,
        base_image=base_image,
        torch_index_url=torch_index_url or library.TORCH_CPU_INDEX,
        index_url=index_url,
        ca_bundle=ca_bundle,
        cache=cache,
        efa=efa,
        vllm=vllm,
        sbom=sbom,
        updates=updates,
        platform=platform,
    )
    lines = (f"{image.uri}  {image.size / 1e9:.2f} GB" for image in built)
    echo_result([asdict(image) for image in built], lines, as_json=as_json)


@images.command("pin-bases")
@json_option
def pin_bases(as_json: bool) -> None:
    """Record the digests that the base images' tags have now, for the next builds."""
    from sm_launch import images as library

    pinned = library.pin_bases()
    lines = (f"{name}  {digest}" for name, digest in pinned.items())
    echo_result(pinned, lines, as_json=as_json)


@images.command("flash-attn-wheel")
@click.option("--base-image", help="The image's base. Default: the Dockerfile's.")
@click.option("--max-jobs", default=2, show_default=True, help="Compilers at once, 9 GB each.")
@click.option("--index-url", help="A package index instead of PyPI.")
@click.option("--ca-bundle", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@json_option
def flash_attn_wheel(
    base_image: str | None,
    max_jobs: int,
    index_url: str | None,
    ca_bundle: Path | None,
    as_json: bool,
) -> None:
    """Compile flash-attn once for GPU builds, and record the wheel's hash."""
    from sm_launch import images as library

    made = library.build_wheel(
        base_image=base_image,
        max_jobs=max_jobs,
        index_url=index_url,
        ca_bundle=ca_bundle,
    )
    wheels = [str(wheel) for wheel in made]
    echo_result(wheels, wheels, as_json=as_json)


@images.command()
@_flavor
@json_option
def audit(flavor: str, as_json: bool) -> None:
    """Look the locked packages of both images up in a database of vulnerabilities."""
    from sm_launch import images as library

    report = library.audit(flavor)
    if as_json:
        echo_json(report)
    elif report["skipped"]:
        click.echo(f"skipped: {report['skipped']}", err=True)
    for each in report["vulnerabilities"] if not as_json else []:
        fixed = ", ".join(each["fix_versions"]) or "none yet"
        click.echo(f"{each['package']} {each['version']}  {each['id']}  fixed in: {fixed}")
    if report["vulnerabilities"]:
        raise click.exceptions.Exit(1)


@images.command()
@_flavor
@_tag
@click.option("--registry", help="host[:port][/prefix]. Default: ECR of the AWS account in use.")
@click.option("--allow-dirty", is_flag=True, help="Push although the tree has changes.")
@job_options
@json_option
def push(
    flavor: str,
    tag: str | None,
    registry: str | None,
    allow_dirty: bool,
    options: JobOptions,
    as_json: bool,
) -> None:
    """Push both images and print by which digest they can be pulled."""
    from sm_launch import images as library

    region = _region(options)
    pushed = library.push(flavor, tag, registry=registry, region=region, allow_dirty=allow_dirty)
    lines = (str(image.digest) for image in pushed)
    echo_result([asdict(image) for image in pushed], lines, as_json=as_json)


@images.command()
@_flavor
@_tag
@click.option(
    "--fail-on", type=click.Choice(["CRITICAL", "HIGH", "none"]), default="CRITICAL",
    show_default=True, help="The severity from which a finding is a failure.",
)  # fmt: skip
@job_options
@json_option
def scan(
    flavor: str,
    tag: str | None,
    fail_on: str,
    options: JobOptions,
    as_json: bool,
) -> None:
    """Wait for ECR's scan of the pushed images, and fail where it found something severe."""
    from sm_launch import images as library
    from sm_launch.images.scanning import at_least

    region = _region(options)
    findings = library.scan(flavor, tag, region=region)
    lines = (f"{name}: {_findings(counts)}" for name, counts in findings.items())
    echo_result(findings, lines, as_json=as_json)
    if fail_on != "none" and any(at_least(counts, fail_on) for counts in findings.values()):
        raise click.exceptions.Exit(1)


def _findings(counts: dict[str, int]) -> str:
    by_severity = ", ".join(f"{count} {severity}" for severity, count in sorted(counts.items()))
    return by_severity or "nothing found"


@images.command("list")
@click.option("--registry", help="host[:port], or `ecr`. Default: this machine's Docker.")
@job_options
@json_option
def list_(
    registry: str | None,
    options: JobOptions,
    as_json: bool,
) -> None:
    """List our images, here or in a registry."""
    from sm_launch import images as library

    region = _region(options)
    entries = library.list_images(registry=registry, region=region)
    lines = [f"{e['repository']}:{e['tag']}  {e['digest'] or ''}".rstrip() for e in entries]
    none = f"none in {registry or 'Docker here'}: `make build` makes them, `make push` sends them"
    echo_result(entries, lines or [none], as_json=as_json)
