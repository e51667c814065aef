"""Build both images with BuildKit."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from sm_launch.errors import UserInputError
from sm_launch.images import bases
from sm_launch.images.checkout import (
    IMAGES,
    checked_flavor,
    checked_tag,
    default_tag,
    git,
    locked_versions,
    repository,
)
from sm_launch.images.engine import Image, docker, size
from sm_launch.images.sbom import write_sbom

TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
_SYSTEM_CA = Path("/etc/ssl/certs/ca-certificates.crt")
PLATFORM = "linux/amd64"
"""The one that the locks have wheels for, whatever machine builds."""
_ONE_MANIFEST = ("--provenance=false", "--sbom=false")
"""SageMaker takes a Docker V2 manifest. An engine with the containerd image store (the default of
Docker 29) would make an OCI index, to hold attestations beside the image."""

# Stack versions that become labels.
_LABELLED = ("torch", "transformers", "trl", "peft", "vllm",
             "sagemaker-training", "sagemaker-inference")  # fmt: skip


def build(
    flavor: str,
    tag: str | None = None,
    *,
    root: Path | None = None,
    base_image: str | None = None,
    torch_index_url: str = TORCH_CPU_INDEX,
    index_url: str | None = None,
    ca_bundle: Path | None = None,
    images: tuple[str, ...] = IMAGES,
    cache: str | None = None,
    efa: bool = False,
    vllm: bool | None = None,
    sbom: bool = True,
    updates: str | None = None,
    platform: str = PLATFORM,
) -> list[Image]:
    """Build `sm-train:TAG-FLAVOR` and `sm-serve:TAG-FLAVOR`.

    Args:
        flavor: `cpu` or `gpu`.
        tag: default: the commit, with `-dirty` where the tree has changes.
        root: the repository; default: the one that this module is in.
        base_image: default: what containers/bases.txt names for the flavour.
        torch_index_url: where torch's CPU wheels come from.
        index_url: package index instead of PyPI; credentials belong into ~/.netrc.
        ca_bundle: certificates of a company proxy, for the build only; default: the system's.
        images: which of the two.
        cache: registry repository for BuildKit's layer cache.
        efa: add libfabric and NCCL's plugin for it to the training image (GPU flavour).
        vllm: whether the serving image has vLLM, for generation on GPUs; default: GPU flavour only.
        sbom: write a bill of materials beside.
        updates: security updates are asked for again when this text changes, though layers are
            cached; default: the variable IMAGE_UPDATES, else the week (`2026-W48`).
        platform: `linux/amd64`; another is refused.

    Raises:
        UserInputError: a tag or flavour that cannot be.
        LaunchError: docker or the build failed.
    """
    root = root or repository()
    tag = checked_tag(tag or default_tag(root))
    checked_flavor(flavor)
    _check_options(flavor, platform, efa=efa, vllm=bool(vllm))
    if flavor == "cpu" and _fill_wheelhouse(root):
        torch_index_url = ""  # an index that cannot be reached would fail the build
    secrets = build_secrets(ca_bundle)
    base = base_image or bases.base_image(root, flavor)
    built = []
    for image in images:
        uri = f"sm-{image}:{tag}-{flavor}"
        lock = "gpu-no-vllm" if vllm is False and image == "serve" and flavor == "gpu" else flavor
        arguments = build_arguments(flavor, base, torch_index_url, index_url,
                                    lock=lock, updates=updates)  # fmt: skip
        own = _efa(root) if efa and image == "train" else []
        context = ["--file", str(root / "containers" / image / "Dockerfile"), *arguments, *own,
                   *secrets, *_cache_from(cache, image, flavor),
                   str(root / "containers")]  # fmt: skip
        labels = _labels(root, image, flavor, tag, lock)
        docker("buildx", "build", "--load", "--tag", uri, *_ONE_MANIFEST, *labels,
               *_cache_to(cache, image, flavor), *context, show=True)  # fmt: skip
        materials = write_sbom(root, image, tag, flavor, lock, context) if sbom else None
        built.append(Image(f"sm-{image}", uri, None, size(uri), materials))
    return built


def _efa(root: Path) -> list[str]:
    values = {"EFA": "on", "CUDA_DEVEL_IMAGE": bases.base_image(root, "efa")}
    return [part for key, value in values.items() for part in ("--build-arg", f"{key}={value}")]


def _check_options(flavor: str, platform: str, **gpu_only: bool) -> None:
    if platform != PLATFORM:
        raise UserInputError(
            "the images have no lock files for this platform",
            field="platform",
            value=platform,
            fix=f"leave it out ({PLATFORM} is built, on other machines by emulation), and choose "
            "instances that are not Graviton (ml.c7g, ml.m7g, …)",
        )
    for option, chosen in gpu_only.items():
        if chosen and flavor != "gpu":
            raise UserInputError(
                "needs the GPU flavour", field=option, value=True, fix="--flavor gpu"
            )


def _updates() -> str:
    return os.environ.get("IMAGE_UPDATES") or f"{datetime.now(UTC):%G-W%V}"


def build_arguments(
    flavor: str,
    base_image: str,
    torch_index_url: str,
    index_url: str | None,
    *,
    lock: str | None = None,
    updates: str | None = None,
) -> list[str]:
    """What the Dockerfiles' ARGs are set to, and the platform; alike where stages are shared."""
    values = {"LOCK": lock or flavor, "TORCH_LOCK": flavor, "BASE_IMAGE": base_image,
              "UPDATES": updates or _updates()}  # fmt: skip
    if flavor == "cpu":
        values["TORCH_INDEX_URL"] = torch_index_url
    if index_url:
        values["PIP_INDEX_URL"] = index_url
    given = [part for key, value in values.items() for part in ("--build-arg", f"{key}={value}")]
    return [*given, "--platform", PLATFORM]


def build_secrets(ca_bundle: Path | None) -> list[str]:
    """Certificates and credentials for the build's own network access; never in a layer."""
    files = {"ca": ca_bundle or _SYSTEM_CA, "netrc": Path.home() / ".netrc"}
    return [
        part
        for name, path in files.items()
        if path.is_file()
        for part in ("--secret", f"id={name},src={path}")
    ]


def _labels(root: Path, image: str, flavor: str, tag: str, lock: str) -> list[str]:
    """Labels and times are the commit's, so that a commit built twice is one image."""
    moment = int(git(root, "log", "-1", "--format=%ct") or datetime.now(UTC).timestamp())
    created = datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds")
    labels = {
        "org.opencontainers.image.title": f"sm-{image}",
        "org.opencontainers.image.licenses": "Apache-2.0",
        "org.opencontainers.image.source": source_url(root),
        "org.opencontainers.image.revision": git(root, "rev-parse", "HEAD"),
        "org.opencontainers.image.version": tag,
        "org.opencontainers.image.created": created,
    }
    for name, version in locked_versions(root, image, flavor, lock).items():
        if name in _LABELLED:
            labels[f"sm-launch.stack.{name}"] = version
    marks = [part for key, value in labels.items() for part in ("--label", f"{key}={value}")]
    return ["--build-arg", f"SOURCE_DATE_EPOCH={moment}", *marks]


def source_url(root: Path) -> str:
    """Where the checkout came from, without the token that a clone's URL may hold."""
    origin = git(root, "remote", "get-url", "origin")
    return re.sub(r"(?<=://)[^/@]*@", "", origin) or "unknown"


def _cache_from(cache: str | None, image: str, flavor: str) -> list[str]:
    return ["--cache-from", f"type=registry,ref={cache}:{image}-{flavor}"] if cache else []


def _cache_to(cache: str | None, image: str, flavor: str) -> list[str]:
    ref = f"type=registry,ref={cache}:{image}-{flavor},mode=max,image-manifest=true"
    return ["--cache-to", ref] if cache else []


def _fill_wheelhouse(root: Path) -> bool:
    """torch's CPU wheel from the folders that pip knows (find-links), which a build cannot see.

    Returns:
        Whether the wheel is there; otherwise the build must ask an index.
    """
    wheelhouse = root / "containers" / "wheelhouse" / "cpu"
    if any(wheelhouse.glob("torch-*.whl")):
        return True
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    links = subprocess.run([*pip, "config", "list"], capture_output=True, text=True, check=False)
    if "find-links" not in links.stdout:
        return False
    lock = root / "containers" / "torch" / "cpu.txt"
    # The folder may hold no wheel for the Python of the default base; then the index is asked.
    command = ["download", "--quiet", "--no-deps", "--no-index", "--require-hashes",
               "--only-binary=:all:", "--python-version", "3.11", "--dest", str(wheelhouse),
               "--platform", "manylinux_2_28_x86_64", "--requirement", str(lock)]  # fmt: skip
    return subprocess.run([*pip, *command], check=False, capture_output=True).returncode == 0
