"""Images that tests leave with the Docker Engine."""

from __future__ import annotations

import subprocess


def forget(part: str) -> None:
    """Untag every image in whose name and tag this text stands; files that no tag has are freed."""
    listing = ["docker", "image", "ls", "--format", "{{.Repository}}:{{.Tag}}"]
    names = subprocess.run(listing, capture_output=True, text=True, check=True).stdout.split()
    if ours := [name for name in names if part in name]:
        subprocess.run(["docker", "image", "rm", *ours], check=True, capture_output=True)
