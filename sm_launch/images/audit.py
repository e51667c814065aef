"""Known vulnerabilities of what the images are locked to (pip-audit)."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sm_launch.errors import LaunchError
from sm_launch.images.checkout import IMAGES, checked_flavor, repository


def audit(flavor: str, *, root: Path | None = None) -> dict[str, Any]:
    """Ask the package index's database about every locked package of both images.

    Returns:
        `vulnerabilities` (package, version, id, fix_versions), `unknown` (packages that the
        database does not know) and `skipped`: why nothing was looked up, else None.

    Raises:
        LaunchError: pip-audit is not installed, or it failed otherwise.
    """
    checked_flavor(flavor)
    if find_spec("pip_audit") is None:
        raise LaunchError("pip-audit is not installed", fix="run `make setup-dev`")
    containers = (root or repository()) / "containers"
    locks = [containers / "torch" / f"{flavor}.txt"]
    for image in IMAGES:
        locks += [containers / image / "locks" / name for name in ("sdist.txt", f"{flavor}.txt")]
    audited: dict[str, dict[str, Any]] = {}
    for lock in locks:  # one by one: the images may lock different versions of a package
        dependencies = _ask(lock)
        if dependencies is None:
            return _report([], "the database of vulnerabilities cannot be reached")
        audited |= {f"{each['name']} {each.get('version')}": each for each in dependencies}
    known = [each for each in audited.values() if "skip_reason" not in each]
    if not known:
        return _report(list(audited.values()), "the package index answers for no package at all")
    return _report(list(audited.values()), None)


def _ask(lock: Path) -> list[dict[str, Any]] | None:
    """pip-audit's answer for one lock file, None where it reaches nothing."""
    command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--require-hashes",
               "--format", "json", "--progress-spinner", "off", "--timeout", "15",
               "--requirement", str(lock)]  # fmt: skip
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.stdout.startswith("{"):
        dependencies: list[dict[str, Any]] = json.loads(answer.stdout)["dependencies"]
        return dependencies
    if "Connection" in answer.stderr or "Timeout" in answer.stderr:
        return None
    raise LaunchError(f"pip-audit failed: {answer.stderr.strip()[-500:]}", value=str(lock))


def _report(dependencies: list[dict[str, Any]], skipped: str | None) -> dict[str, Any]:
    return {
        "skipped": skipped,
        "unknown": sorted(each["name"] for each in dependencies if "skip_reason" in each),
        "vulnerabilities": [
            {"package": each["name"], "version": each["version"], "id": vulnerability["id"],
             "fix_versions": vulnerability["fix_versions"]}
            for each in dependencies
            for vulnerability in each.get("vulns", [])
        ],
    }  # fmt: skip
