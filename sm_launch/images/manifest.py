"""What a registry holds under a tag: SageMaker takes one kind of manifest only."""

from __future__ import annotations

import hashlib
import json
import subprocess
from dataclasses import dataclass
from typing import Any

from sm_launch.errors import LaunchError

DOCKER_V2 = "application/vnd.docker.distribution.manifest.v2+json"
"""The media type of an image that SageMaker takes (Developer Guide, "Docker image requirements":
Docker Image Manifest V2, Schema 2). An index of several images is refused when a job starts."""


@dataclass(frozen=True)
class Manifest:
    """A manifest as the registry sends it.

    Attributes:
        media_type: of the manifest.
        digest: of the manifest: `sha256:…`, by which the image is pulled.
        size: of the manifest, in bytes.
        image_id: digest of the image's configuration; None for an index.
    """

    media_type: str
    digest: str
    size: int
    image_id: str | None

    def is_of(self, image_id: str) -> bool:
        """Whether this is the local image with that ID, in either of Docker's image stores."""
        return image_id in (self.image_id, self.digest)


def remote(uri: str) -> Manifest | None:
    """The manifest under a tag, None where the registry has no such tag.

    Raises:
        LaunchError: the registry refused, or cannot be reached.
    """
    command = ["docker", "buildx", "imagetools", "inspect", "--raw", uri]
    answer = subprocess.run(command, capture_output=True, check=False)
    if answer.returncode == 0:
        return _parsed(answer.stdout)
    reason = answer.stderr.decode(errors="replace").strip()
    if "not found" in reason.lower():
        return None
    raise LaunchError(f"the registry does not say what it has: {reason}", value=uri)


def is_plain_http(host: str) -> bool:
    """Whether a registry is asked without TLS: one of this machine, as Docker does it."""
    return host.startswith(("127.", "localhost"))


def require_docker_v2(media_type: str, uri: str) -> None:
    """Refuse what SageMaker would refuse when the first job starts.

    Raises:
        LaunchError: naming the media type and how to build the image instead.
    """
    if media_type != DOCKER_V2:
        raise LaunchError(
            f"SageMaker takes no image with a manifest of the type {media_type}",
            value=uri,
            fix="build it with `make build`, which makes no index and no attestations"
            " (docker buildx build --provenance=false --sbom=false)",
        )


def _parsed(raw: bytes) -> Manifest:
    manifest: dict[str, Any] = json.loads(raw)
    # An OCI manifest need not name its own type.
    kind = "index" if "manifests" in manifest else "manifest"
    media_type = manifest.get("mediaType", f"application/vnd.oci.image.{kind}.v1+json")
    digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
    return Manifest(media_type, digest, len(raw), manifest.get("config", {}).get("digest"))
