"""Bills of materials: what is in an image, written when it is built."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sm_launch.images.engine import docker

SBOM_DIRECTORY = Path("build") / "sbom"
"""Where they are put, below the repository."""


def write_sbom(
    root: Path, image: str, tag: str, flavor: str, dockerfile_arguments: Sequence[str]
) -> Path:
    """Have the build scan the image, whose layers are cached, and keep the CycloneDX document.

    Args:
        root: the repository.
        image: `train` or `serve`.
        tag: of the image; part of the file's name.
        flavor: of the image; part of the file's name.
        dockerfile_arguments: what the image was built with, so that it is not built anew.
    """
    directory = root / SBOM_DIRECTORY
    directory.mkdir(parents=True, exist_ok=True)
    docker("buildx", "build", "--target", "sbom", "--output", f"type=local,dest={directory}",
           *dockerfile_arguments, show=True)  # fmt: skip
    written = directory / f"sm-{image}.cdx.json"
    return written.replace(directory / f"sm-{image}-{tag}-{flavor}.cdx.json")
