"""Which version of the launcher this is: it stands in reports, and in the keys of kept answers."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def launcher_version() -> str:
    """As installed; 0.0.0 for a source tree that never was."""
    try:
        return version("sm-launch")
    except PackageNotFoundError:
        return "0.0.0"
