"""Container images: build both, push them to ECR or any registry, list what is there."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sm_launch.errors import LaunchError, UserInputError

IMAGES = ("train", "serve")
FLAVORS = ("cpu", "gpu")
_CPU_BASE = "debian:bookworm-slim"
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
_SYSTEM_CA = Path("/etc/ssl/certs/ca-certificates.crt")

# Stack versions that become labels.
_LABELLED = ("torch", "transformers", "trl", "peft", "sagemaker-training", "sagemaker-inference")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")

LIFECYCLE_POLICY = {
    "rules": [
        {
            "rulePriority": 1,
            "description": "untagged images go after two weeks",
            "selection": {
                "tagStatus": "untagged",
                "countType": "sinceImagePushed",
                "countUnit": "days",
                "countNumber": 14,
            },
            "action": {"type": "expire"},
        },
        {
            "rulePriority": 2,
            "description": "the newest 50 tagged images stay",
            "selection": {
                "tagStatus": "tagged",
                "tagPatternList": ["*"],
                "countType": "imageCountMoreThan",
                "countNumber": 50,
            },
            "action": {"type": "expire"},
        },
    ]
}


@dataclass(frozen=True)
class Image:
    """One built or pushed image.

    Attributes:
        name: `sm-train` or `sm-serve`.
        uri: by tag.
        digest: `repository@sha256:…` once pushed, else None.
        size: uncompressed, in bytes.
    """

    name: str
    uri: str
    digest: str | None
    size: int


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
) -> list[Image]:
    """Build `sm-train:TAG-FLAVOR` and `sm-serve:TAG-FLAVOR`.

    Args:
        flavor: `cpu` or `gpu`.
        tag: default: the commit, with `-dirty` where the tree has changes.
        root: the repository; default: the one that this module is in.
        base_image: default: Debian for cpu, the Dockerfile's pinned NVIDIA base for gpu.
        torch_index_url: where torch's CPU wheels come from.
        index_url: package index instead of PyPI; credentials belong into ~/.netrc.
        ca_bundle: certificates of a company proxy, for the build only; default: the system's.
        images: which of the two.
        cache: registry repository for BuildKit's layer cache.

    Raises:
        LaunchError: docker or the build failed.
    """
    root = root or repository()
    tag = checked_tag(tag or default_tag(root))
    checked_flavor(flavor)
    if flavor == "cpu" and _fill_wheelhouse(root):
        torch_index_url = ""  # an index that cannot be reached would fail the build
    arguments = _build_arguments(flavor, base_image, torch_index_url, index_url)
    arguments += _secrets(ca_bundle)
    built = []
    for image in images:
        uri = f"sm-{image}:{tag}-{flavor}"
        _docker("buildx", "build", "--load", "--tag", uri,
                "--file", str(root / "containers" / image / "Dockerfile"),
                *arguments, *_labels(root, image, flavor, tag), *_cache(cache, image, flavor),
                str(root / "containers"), show=True)  # fmt: skip
        built.append(Image(f"sm-{image}", uri, None, _size(uri)))
    return built


def push(
    flavor: str,
    tag: str | None = None,
    *,
    registry: str | None = None,
    region: str | None = None,
    allow_dirty: bool = False,
    root: Path | None = None,
    images: tuple[str, ...] = IMAGES,
) -> list[Image]:
    """Push the built images, and say by which digest they can be pulled.

    Args:
        registry: `host[:port][/prefix]`; default: ECR of the account and region in use.
        allow_dirty: push although the working tree has changes.

    Raises:
        UserInputError: the tag is `latest`, the tree is dirty, or an image was not built.
        LaunchError: docker or the registry refused.
    """
    root = root or repository()
    tag = checked_tag(tag or default_tag(root))
    checked_flavor(flavor)
    if not allow_dirty and is_dirty(root):
        raise UserInputError(
            "the working tree has changes: the tag would not say what is in the image",
            field="tag",
            value=tag,
            fix="commit them, or say --allow-dirty",
        )
    local = [f"sm-{image}:{tag}-{flavor}" for image in images]
    for uri in local:
        if not _inspect(uri):
            raise UserInputError(
                "this image has not been built",
                field="tag",
                value=uri,
                fix=f"run `make build FLAVOR={flavor} TAG={tag}` first",
            )
    if registry is None:
        registry = _ecr_registry(region, [uri.partition(":")[0] for uri in local])
    return [_push(uri, registry.rstrip("/")) for uri in local]


def list_images(*, registry: str | None = None, region: str | None = None) -> list[dict[str, Any]]:
    """Images of ours: `repository`, `tag`, `digest`, `size` in bytes (None where unknown).

    Args:
        registry: a registry to ask; `ecr` asks ECR; default: this machine's Docker.
    """
    if registry is None:
        return _local_images()
    if registry == "ecr":
        return _ecr_images(region)
    return [entry for image in IMAGES for entry in _registry_images(registry, f"sm-{image}")]


def repository() -> Path:
    """The repository that this installation is an editable install of.

    Raises:
        LaunchError: there are no Dockerfiles above this module.
    """
    root = Path(__file__).resolve().parents[1]
    if not (root / "containers" / "train" / "Dockerfile").is_file():
        raise LaunchError(
            "images are built from a checkout of the repository, and this is none",
            value=str(root),
            fix="clone it, run `make setup` there and call its .venv/bin/sm-launch",
        )
    return root


def default_tag(root: Path) -> str:
    """The commit, shortened to 12 digits, and `-dirty` where there are changes."""
    commit = _git(root, "rev-parse", "--short=12", "HEAD")
    return f"{commit}-dirty" if is_dirty(root) else commit


def is_dirty(root: Path) -> bool:
    """Whether the working tree differs from the commit."""
    return bool(_git(root, "status", "--porcelain"))


def checked_tag(tag: str) -> str:
    """`tag`, unless it is `latest` or no tag at all.

    Raises:
        UserInputError: with the reason.
    """
    if tag == "latest" or not _TAG.fullmatch(tag):
        raise UserInputError(
            "is not a tag that says which code is in the image",
            field="tag",
            value=tag,
            fix="leave it out (the git commit is the default), or name a version such as v1.2.0",
        )
    return tag


def checked_flavor(flavor: str) -> None:
    """Refuse an unknown flavour.

    Raises:
        UserInputError: neither cpu nor gpu.
    """
    if flavor not in FLAVORS:
        raise UserInputError("is not a flavour", field="flavor", value=flavor, fix="cpu or gpu")


def _build_arguments(
    flavor: str, base_image: str | None, torch_index_url: str, index_url: str | None
) -> list[str]:
    values = {"LOCK": flavor, "TORCH_LOCK": flavor}
    base = base_image or (_CPU_BASE if flavor == "cpu" else None)
    if base:
        values["BASE_IMAGE"] = base
    if flavor == "cpu":
        values["TORCH_INDEX_URL"] = torch_index_url
    if index_url:
        values["PIP_INDEX_URL"] = index_url
    return [part for key, value in values.items() for part in ("--build-arg", f"{key}={value}")]


def _secrets(ca_bundle: Path | None) -> list[str]:
    """Certificates and credentials for the build's own network access; never in a layer."""
    found = {"ca": ca_bundle or _SYSTEM_CA, "netrc": Path.home() / ".netrc"}
    return [
        part
        for name, path in found.items()
        if path.is_file()
        for part in ("--secret", f"id={name},src={path}")
    ]


def _labels(root: Path, image: str, flavor: str, tag: str) -> list[str]:
    labels = {
        "org.opencontainers.image.title": f"sm-{image}",
        "org.opencontainers.image.source": _git(root, "remote", "get-url", "origin") or "unknown",
        "org.opencontainers.image.revision": _git(root, "rev-parse", "HEAD"),
        "org.opencontainers.image.version": tag,
        "org.opencontainers.image.created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    for name, version in locked_versions(root, image, flavor).items():
        if name in _LABELLED:
            labels[f"sm-launch.stack.{name}"] = version
    return [part for key, value in labels.items() for part in ("--label", f"{key}={value}")]


def locked_versions(root: Path, image: str, flavor: str) -> dict[str, str]:
    """Package name to version, from the lock files of an image."""
    containers = root / "containers"
    locks = (
        containers / "torch" / f"{flavor}.txt",
        containers / image / "locks" / "sdist.txt",
        containers / image / "locks" / f"{flavor}.txt",
    )
    pins: dict[str, str] = {}
    for lock in locks:
        # Where markers split a package, pip's choice depends on the image's Python: none is named.
        found = re.findall(r"^([a-z0-9.-]+)==([^\s;]+)", lock.read_text(), re.MULTILINE)
        names = [name for name, _ in found]
        pins |= {name: version for name, version in found if names.count(name) == 1}
    return pins


def _cache(cache: str | None, image: str, flavor: str) -> list[str]:
    if cache is None:
        return []
    ref = f"type=registry,ref={cache}:{image}-{flavor}"
    return ["--cache-from", ref, "--cache-to", f"{ref},mode=max,image-manifest=true"]


def _fill_wheelhouse(root: Path) -> bool:
    """torch's CPU wheel from the folders that pip knows (find-links), which a build cannot see.

    Returns:
        Whether the wheel is there; otherwise the build must ask an index.
    """
    wheelhouse = root / "containers" / "wheelhouse"
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


def _push(local: str, registry: str) -> Image:
    uri = f"{registry}/{local}"
    name = local.partition(":")[0]
    _docker("tag", local, uri)
    _docker("push", uri, show=True)
    digests: list[str] = _inspect(uri).get("RepoDigests", [])
    ours = [digest for digest in digests if digest.startswith(f"{registry}/{name}@")]
    if not ours:
        raise LaunchError("the registry named no digest for a pushed image", value=uri)
    return Image(name, uri, ours[-1], _size(uri))


def _ecr_registry(region: str | None, repositories: list[str]) -> str:
    """Make the repositories that are missing, log in, and return the registry's host."""
    import boto3

    ecr = boto3.Session(region_name=region).client("ecr")
    for name in repositories:
        ensure_repository(ecr, name)
    answer = ecr.get_authorization_token()["authorizationData"][0]
    user, _, password = base64.b64decode(answer["authorizationToken"]).decode().partition(":")
    host = answer["proxyEndpoint"].removeprefix("https://")
    _docker("login", "--username", user, "--password-stdin", host, stdin=password)
    return host


def ensure_repository(ecr: Any, name: str) -> bool:
    """Make an ECR repository with scan on push, immutable tags and a lifecycle rule.

    Returns:
        Whether it was made now; an existing one is left as its owner set it.
    """
    try:
        ecr.create_repository(
            repositoryName=name,
            imageTagMutability="IMMUTABLE",
            imageScanningConfiguration={"scanOnPush": True},
            encryptionConfiguration={"encryptionType": "AES256"},
        )
    except ecr.exceptions.RepositoryAlreadyExistsException:
        return False
    ecr.put_lifecycle_policy(repositoryName=name, lifecyclePolicyText=json.dumps(LIFECYCLE_POLICY))
    return True


def _local_images() -> list[dict[str, Any]]:
    lines = _docker("images", "--digests", "--format", "{{json .}}").splitlines()
    entries = [json.loads(line) for line in lines]
    return [
        {
            "repository": entry["Repository"],
            "tag": entry["Tag"],
            "digest": None if entry["Digest"] == "<none>" else entry["Digest"],
            "size": _size(entry["ID"]),
        }
        for entry in entries
        if re.search(r"(^|/)sm-(train|serve)$", entry["Repository"]) and entry["Tag"] != "<none>"
    ]


def _ecr_images(region: str | None) -> list[dict[str, Any]]:
    import boto3

    ecr = boto3.Session(region_name=region).client("ecr")
    found = []
    for image in IMAGES:
        name = f"sm-{image}"
        try:
            pages = list(ecr.get_paginator("describe_images").paginate(repositoryName=name))
        except ecr.exceptions.RepositoryNotFoundException:
            continue
        for detail in (detail for page in pages for detail in page["imageDetails"]):
            for tag in detail.get("imageTags", ["<none>"]):
                found.append({"repository": name, "tag": tag, "digest": detail["imageDigest"],
                              "size": detail.get("imageSizeInBytes")})  # fmt: skip
    return found


def _registry_images(registry: str, name: str) -> list[dict[str, Any]]:
    import httpx

    host, _, prefix = registry.partition("/")
    path = f"{prefix}/{name}" if prefix else name
    scheme = "http" if host.startswith(("127.", "localhost")) else "https"
    answer = httpx.get(f"{scheme}://{host}/v2/{path}/tags/list")
    if answer.status_code == httpx.codes.NOT_FOUND:
        return []
    answer.raise_for_status()
    accept = "application/vnd.docker.distribution.manifest.v2+json"
    found = []
    for tag in sorted(answer.json().get("tags") or []):
        head = httpx.head(
            f"{scheme}://{host}/v2/{path}/manifests/{tag}", headers={"Accept": accept}
        )
        digest = head.headers.get("Docker-Content-Digest")
        found.append({"repository": f"{registry}/{name}", "tag": tag, "digest": digest,
                      "size": None})  # fmt: skip
    return found


def _inspect(uri: str) -> dict[str, Any]:
    answer = subprocess.run(
        ["docker", "image", "inspect", uri], capture_output=True, text=True, check=False
    )
    found: list[dict[str, Any]] = json.loads(answer.stdout or "[]")
    return found[0] if found else {}


def _size(uri: str) -> int:
    size: int = _inspect(uri)["Size"]
    return size


def _git(root: Path, *arguments: str) -> str:
    answer = subprocess.run(
        ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False
    )
    return answer.stdout.strip()


def _docker(*arguments: str, show: bool = False, stdin: str | None = None) -> str:
    """Run the docker CLI; with `show` its progress goes to stderr as it comes."""
    try:
        answer = subprocess.run(
            ["docker", *arguments],
            input=stdin,
            stdout=sys.stderr.fileno() if show else subprocess.PIPE,
            stderr=None if show else subprocess.PIPE,
            text=True,
            check=False,
            env={**os.environ, "DOCKER_BUILDKIT": "1"},
        )
    except FileNotFoundError:
        raise LaunchError(
            "the docker command is not installed",
            fix="install Docker (.ci/docker-engine does on Debian and Ubuntu)",
        ) from None
    if answer.returncode:
        raise LaunchError(
            f"`docker {' '.join(arguments[:2])}` failed: {(answer.stderr or 'see above').strip()}"
        )
    return answer.stdout or ""
