"""Images that tests leave with the Docker Engine."""

from __future__ import annotations

import re
import subprocess

# What `pip check` may say: containers/train/locks/overrides.txt sets llm-compressor's pin aside.
REQUIREMENTS_FIT = re.compile(
    r"No broken requirements found\.|llmcompressor .* has requirement transformers.*"
)


def forget(part: str) -> None:
    """Untag every image in whose name and tag this text stands; files that no tag has are freed."""
    listing = ["docker", "image", "ls", "--format", "{{.Repository}}:{{.Tag}}"]
    names = subprocess.run(listing, capture_output=True, text=True, check=True).stdout.split()
    if ours := [name for name in names if part in name]:
        subprocess.run(["docker", "image", "rm", *ours], check=True, capture_output=True)
