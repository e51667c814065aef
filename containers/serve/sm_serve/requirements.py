"""What a script's requirements.txt asks for and the image lacks: nothing is installed at start."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

FILE = "requirements.txt"


def unmet(code_dir: Path) -> list[str]:
    """Requirements that no installed package meets; lines that name no package are passed over."""
    from packaging.requirements import InvalidRequirement, Requirement

    file = code_dir / FILE
    if not file.is_file():
        return []
    found = []
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
                found.append(text)
                continue
            if not requirement.specifier.contains(version, prereleases=True):
                found.append(f"{text} ({version} is installed)")
    return found
