"""Base images: which, and by which digest, so that two builds stand on the same one."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from sm_launch.errors import LaunchError
from sm_launch.images import manifest
from sm_launch.images.checkout import repository
from sm_launch.images.engine import inspect

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def bases_file(root: Path) -> Path:
    """The file that names them."""
    return root / "containers" / "bases.txt"


def base_image(root: Path, purpose: str) -> str:
    """What a build starts from: `name@digest` where a digest is recorded, else the name.

    An image of that name which was made on this machine (.ci/docker-engine) has no digest in any
    registry, and is taken as it is.

    Args:
        root: the repository.
        purpose: `cpu` or `gpu`, the flavour's; `efa`, what compiles EFA's libraries.

    Raises:
        LaunchError: the file names none for this purpose.
    """
    name, digest = _read(root).get(purpose, ("", ""))
    if not name:
        raise LaunchError("names no base image", field=purpose, value=str(bases_file(root)))
    if not digest or _made_here(name):
        why = "it was made on this machine" if digest else "`make bases` records one"
        sys.stderr.write(f"base image {name}: taken by its name, not by a digest ({why})\n")
        return name
    return f"{name}@{digest}"


def pin_bases(root: Path | None = None) -> dict[str, str]:
    """Ask the registries for the digests of the base images, and record them.

    Returns:
        Name to digest.

    Raises:
        LaunchError: a registry does not answer, or does not know the image.
    """
    root = root or repository()
    digests = {}
    for name, _ in _read(root).values():
        known = manifest.remote(name)
        if known is None:
            raise LaunchError("the registry does not know this base image", value=name)
        digests[name] = known.digest
    lines = bases_file(root).read_text(encoding="utf-8").splitlines()
    text = "\n".join(_pinned(line, digests) for line in lines)
    bases_file(root).write_text(f"{text}\n", encoding="utf-8")
    return digests


def _pinned(line: str, digests: dict[str, str]) -> str:
    fields = line.split()
    return (
        line if line.startswith("#") or not fields else " ".join([*fields[:2], digests[fields[1]]])
    )


def _read(root: Path) -> dict[str, tuple[str, str]]:
    """Purpose to name and digest, which may be missing."""
    bases = {}
    for line in bases_file(root).read_text(encoding="utf-8").splitlines():
        fields = line.split()
        if not fields or line.startswith("#"):
            continue
        digest = fields[2] if len(fields) > 2 else ""
        if len(fields) < 2 or (digest and not _DIGEST.fullmatch(digest)):
            raise LaunchError("is not `purpose name [sha256:…]`", value=line)
        bases[fields[0]] = (fields[1], digest)
    return bases


def _made_here(name: str) -> bool:
    inspected = inspect(name)
    return bool(inspected) and not inspected.get("RepoDigests")
