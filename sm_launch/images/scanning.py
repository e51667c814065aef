"""What ECR's scan found in pushed images: what is known to be unsafe is not handed on."""

from __future__ import annotations

import time
from typing import Any

from sm_launch.aws.clients import make_client
from sm_launch.errors import LaunchError
from sm_launch.images.checkout import IMAGES, checked_flavor, checked_tag, default_tag, repository

SEVERITIES = ("CRITICAL", "HIGH", "MEDIUM", "LOW")
_WAITING = {"PENDING", "IN_PROGRESS"}
_DONE = {"COMPLETE", "ACTIVE"}
"""ACTIVE is a repository's under enhanced scanning, which goes on."""
_TIMEOUT_S = 900.0


def scan(
    flavor: str,
    tag: str | None = None,
    *,
    region: str | None = None,
    ecr: Any = None,
    pause: float = 5.0,
) -> dict[str, dict[str, int]]:
    """Wait for ECR's scan of both images, which a push starts.

    Args:
        flavor: `cpu` or `gpu`.
        tag: that was pushed; default: the commit.
        region: of the registry; default: the one in use.
        ecr: an ECR client, in place of one for the region.
        pause: seconds between two looks.

    Returns:
        Image to severity to number of findings.

    Raises:
        LaunchError: an image is not scanned: no such image, scanning is off, it failed, or takes
            longer than a quarter of an hour.
    """
    checked_flavor(flavor)
    tag = checked_tag(tag or default_tag(repository()))
    ecr = ecr or make_client("ecr", region)
    names = [f"sm-{image}" for image in IMAGES]
    return {name: _findings(ecr, name, f"{tag}-{flavor}", pause) for name in names}


def _findings(ecr: Any, name: str, tag: str, pause: float) -> dict[str, int]:
    deadline = time.monotonic() + _TIMEOUT_S
    while True:
        try:
            answer = ecr.describe_image_scan_findings(
                repositoryName=name, imageId={"imageTag": tag}, maxResults=1
            )
            state = answer["imageScanStatus"]["status"]
        except ecr.exceptions.ScanNotFoundException:
            answer, state = {}, "PENDING"  # it begins a moment after the push
        if state in _DONE:
            counts: dict[str, int] = answer["imageScanFindings"].get("findingSeverityCounts", {})
            return counts
        if state not in _WAITING or time.monotonic() > deadline:
            why = answer.get("imageScanStatus", {}).get("description", "no scan was begun")
            raise LaunchError(
                f"ECR has not scanned this image ({state}: {why})",
                value=f"{name}:{tag}",
                fix="switch on scan on push for the repository (sm-launch setup does), push again",
            )
        time.sleep(pause)


def at_least(counts: dict[str, int], severity: str) -> int:
    """The number of findings of a severity, and of worse ones."""
    worse = SEVERITIES[: SEVERITIES.index(severity) + 1]
    return sum(counts.get(each, 0) for each in worse)
