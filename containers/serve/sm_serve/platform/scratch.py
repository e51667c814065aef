"""A place for temporary files where the root file system is read-only."""

from __future__ import annotations

import os
import tempfile

SHARED_MEMORY = "/dev/shm"  # noqa: S108 (nothing of ours has a fixed name there)
"""In memory and writable in every container, whatever the file system is."""


def ensure_temporary_directory() -> None:
    """Points TMPDIR at shared memory where there is no other place; torch cannot be imported
    without one, though nothing of ours writes there."""
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        os.environ["TMPDIR"] = SHARED_MEMORY
