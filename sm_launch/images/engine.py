"""What is asked of the docker command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sm_launch.errors import LaunchError


@dataclass(frozen=True)
class Image:
    """One built or pushed image.

    Attributes:
        name: `sm-train` or `sm-serve`.
        uri: by tag.
        digest: `repository@sha256:…` once pushed, else None.
        size: uncompressed, in bytes.
        sbom: its bill of materials (CycloneDX), where the build wrote one.
        sbom_digest: `repository@sha256:…` of that in the registry, once pushed.
    """

    name: str
    uri: str
    digest: str | None
    size: int
    sbom: Path | None = None
    sbom_digest: str | None = None


def inspect(uri: str) -> dict[str, Any]:
    """What Docker knows of an image of this machine; empty where there is none."""
    answer = subprocess.run(
        ["docker", "image", "inspect", uri], capture_output=True, text=True, check=False
    )
    images: list[dict[str, Any]] = json.loads(answer.stdout or "[]")
    return images[0] if images else {}


def image_id(uri: str) -> str:
    """By which this machine's engine knows an image."""
    identity: str = inspect(uri)["Id"]
    return identity


def size(uri: str) -> int:
    """Bytes of an image's layers, uncompressed."""
    size_bytes: int = inspect(uri)["Size"]
    return size_bytes


def docker(*arguments: str, show: bool = False, stdin: str | None = None) -> str:
    """Run the docker CLI; with `show` its progress goes to stderr as it comes.

    Raises:
        LaunchError: docker is not there, or it failed.
    """
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
