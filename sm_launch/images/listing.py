"""Which images of ours are here, in ECR, or in another registry."""

from __future__ import annotations

import json
import re
from typing import Any

from sm_launch import json_lines
from sm_launch.images import ecr
from sm_launch.images.checkout import IMAGES
from sm_launch.images.engine import docker, size
from sm_launch.images.manifest import is_plain_http
from sm_launch.images.sbom import TAG_SUFFIX


def list_images(*, registry: str | None = None, region: str | None = None) -> list[dict[str, Any]]:
    """Images of ours: `repository`, `tag`, `digest`, `size` in bytes (None where unknown).

    Args:
        registry: a registry to ask; `ecr` asks ECR; default: this machine's Docker.
    """
    if registry is None:
        return _local_images()
    if registry == "ecr":
        return ecr.images(region)
    return [entry for image in IMAGES for entry in _registry_images(registry, f"sm-{image}")]


def _local_images() -> list[dict[str, Any]]:
    listed = docker("images", "--digests", "--format", "{{json .}}")
    entries = [json.loads(line) for line in json_lines.split(listed)]
    return [
        {
            "repository": entry["Repository"],
            "tag": entry["Tag"],
            "digest": None if entry["Digest"] == "<none>" else entry["Digest"],
            "size": size(entry["ID"]),
        }
        for entry in entries
        if re.search(r"(^|/)sm-(train|serve)$", entry["Repository"]) and entry["Tag"] != "<none>"
    ]


def _registry_images(registry: str, name: str) -> list[dict[str, Any]]:
    import httpx

    host, _, prefix = registry.partition("/")
    path = f"{prefix}/{name}" if prefix else name
    scheme = "http" if is_plain_http(host) else "https"
    answer = httpx.get(f"{scheme}://{host}/v2/{path}/tags/list")
    if answer.status_code == httpx.codes.NOT_FOUND:
        return []
    answer.raise_for_status()
    accept = "application/vnd.docker.distribution.manifest.v2+json"
    listed = []
    for tag in sorted(answer.json().get("tags") or []):
        if tag.endswith(TAG_SUFFIX):
            continue
        head = httpx.head(
            f"{scheme}://{host}/v2/{path}/manifests/{tag}", headers={"Accept": accept}
        )
        digest = head.headers.get("Docker-Content-Digest")
        listed.append({"repository": f"{registry}/{name}", "tag": tag, "digest": digest,
                      "size": None})  # fmt: skip
    return listed
