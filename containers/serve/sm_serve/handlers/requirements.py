"""What a script's requirements.txt asks for: in the image, or installed if the operator says so.

Installing is off by default: it makes a start slow, depends on a server that may be gone, and runs
code that nobody has looked at. SM_SERVE_INSTALL_REQUIREMENTS turns it on.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

from sm_serve.errors import StartupError

logger = logging.getLogger(__name__)

FILE = "requirements.txt"
VARIABLE = "SM_SERVE_INSTALL_REQUIREMENTS"
OFF, ANY, HASHES = "false", "true", "hashes"
SECONDS = 400
"""The platform gives a container 8 minutes to start."""
SHOWN_LINES = 3


def advice(lacking: list[str]) -> str:
    """What to do about requirements that are not met."""
    return (
        f"code/{FILE} asks for {', '.join(lacking)}, and nothing is installed at start unless"
        f" {VARIABLE} is {ANY} or {HASHES} (with hashes required): set it, or put it into the image"
    )


def unmet(code_dir: Path) -> list[str]:
    """Requirements that no installed package meets; lines that name no package are passed over."""
    from packaging.requirements import InvalidRequirement, Requirement

    file = code_dir / FILE
    if not file.is_file():
        return []
    missing = []
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        text = line.split(" #")[0].split(" --")[0].strip().rstrip("\\").strip()
        if not text or text[0] in "#-":
            continue
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue  # a path or an address
        if requirement.marker is None or requirement.marker.evaluate():
            try:
                version = metadata.version(requirement.name)
            except metadata.PackageNotFoundError:
                missing.append(text)
                continue
            if not requirement.specifier.contains(version, prereleases=True):
                missing.append(f"{text} ({version} is installed)")
    return missing


def install(code_dir: Path, *, hashes: bool) -> Path | None:
    """Installs what is lacking into a temporary folder, and gives it for sys.path.

    The image's own packages stay as they are. With `hashes` each line must pin one, as pip's
    --require-hashes has it. None where nothing is lacking. Raises StartupError with pip's reason.
    """
    wanted = code_dir / FILE
    if not wanted.is_file():
        return None
    strict = ["--require-hashes"] if hashes else []
    report = _pip(code_dir, "--dry-run", "--quiet", "--report", "-", *strict, "-r", FILE)
    chosen = json.loads(report)["install"]
    if not chosen:
        return None
    folder = Path(tempfile.mkdtemp(prefix="sm-serve-requirements-"))
    pinned = folder / "pinned.txt"
    pinned.write_text("".join(map(_pin, chosen)), encoding="utf-8")
    logger.info("installing %s", ", ".join(_name(package) for package in chosen))
    target = folder / "packages"
    _pip(code_dir, "--quiet", "--no-deps", "--target", str(target), "-r", str(pinned))
    return target


def _name(package: Any) -> str:
    return f"{package['metadata']['name']}=={package['metadata']['version']}"


def _pin(package: Any) -> str:
    """A line that names exactly the file that pip chose."""
    info = package["download_info"]
    sums = info.get("archive_info", {}).get("hashes", {})
    source = f"{package['metadata']['name']} @ {info['url']}"
    return source + "".join(f" --hash={name}:{value}" for name, value in sums.items()) + "\n"


def _pip(code_dir: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check",
               "--no-input", *arguments]  # fmt: skip
    try:
        done = subprocess.run(
            command, cwd=code_dir, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise StartupError(f"code/{FILE}: pip took over {SECONDS} s") from error
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        reason = " ".join(lines[-SHOWN_LINES:])[:500]
        raise StartupError(f"code/{FILE} cannot be installed ({VARIABLE}): {reason}")
    return done.stdout
