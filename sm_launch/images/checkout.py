"""The checkout that images are built from: its commit, its lock files, names and tags."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from sm_launch.errors import LaunchError, UserInputError

IMAGES = ("train", "serve")
FLAVORS = ("cpu", "gpu")
_PIN = re.compile(r"^([a-z0-9.-]+)==([^\s;]+)((?:.*\\\n)*.*)$", re.MULTILINE)
_HASH = re.compile(r"--hash=(sha256:[0-9a-f]{64})")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


def repository() -> Path:
    """The repository that this installation is an editable install of.

    Raises:
        LaunchError: there are no Dockerfiles above this module.
    """
    root = Path(__file__).resolve().parents[2]
    if not (root / "containers" / "train" / "Dockerfile").is_file():
        raise LaunchError(
            "images are built from a checkout of the repository, and this is none",
            value=str(root),
            fix="clone it, run `make setup` there and call its .venv/bin/sm-launch",
        )
    return root


def git(root: Path, *arguments: str) -> str:
    """Output of a git command; empty where it fails, or where there is no git."""
    try:
        answer = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return ""
    return answer.stdout.strip()


def default_tag(root: Path) -> str:
    """The commit, shortened to 12 digits, and `-dirty` where there are changes."""
    commit = git(root, "rev-parse", "--short=12", "HEAD")
    return f"{commit}-dirty" if is_dirty(root) else commit


def is_dirty(root: Path) -> bool:
    """Whether the working tree differs from the commit."""
    return bool(git(root, "status", "--porcelain"))


def checked_tag(tag: str) -> str:
    """`tag`, unless it is `latest` or no tag at all.

    Raises:
        UserInputError: with the reason.
    """
    if tag == "latest" or not _TAG.fullmatch(tag):
        raise UserInputError(
            "is not a tag that says which code is in the image",
            field="tag",
            value=tag,
            fix="leave it out (the git commit is the default), or name a version such as v1.2.0",
        )
    return tag


def checked_flavor(flavor: str) -> None:
    """Refuse an unknown flavour.

    Raises:
        UserInputError: neither cpu nor gpu.
    """
    if flavor not in FLAVORS:
        raise UserInputError("is not a flavour", field="flavor", value=flavor, fix="cpu or gpu")


def normalized(name: str) -> str:
    """A Python package's name as the package index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def lock_files(root: Path, image: str, flavor: str, lock: str | None = None) -> list[Path]:
    """The lock files that an image is installed from; `lock`: another than the flavour's."""
    containers = root / "containers"
    return [
        containers / "torch" / f"{flavor}.txt",
        containers / image / "locks" / "sdist.txt",
        containers / image / "locks" / f"{lock or flavor}.txt",
    ]


def locked_hashes(
    root: Path, image: str, flavor: str, lock: str
) -> dict[tuple[str, str], list[str]]:
    """Package name and version to the hashes that an image's lock files allow."""
    files = lock_files(root, image, flavor, lock)
    if image == "train" and flavor == "gpu":
        folder = root / "containers" / "flash-attn"
        files += [folder / "wheels.txt", folder / "build.txt"]
    hashes: dict[tuple[str, str], list[str]] = {}
    for path in files:
        for name, version, rest in _PIN.findall(path.read_text(encoding="utf-8")):
            hashes.setdefault((name, version), []).extend(_HASH.findall(rest))
    return hashes


def locked_versions(root: Path, image: str, flavor: str, lock: str | None = None) -> dict[str, str]:
    """Package name to version, from an image's lock files; `lock`: another than the flavour's."""
    pins: dict[str, str] = {}
    for path in lock_files(root, image, flavor, lock):
        # Where markers split a package, pip's choice depends on the image's Python: none is named.
        pins_here = re.findall(r"^([a-z0-9.-]+)==([^\s;]+)", path.read_text(), re.MULTILINE)
        names = [name for name, _ in pins_here]
        pins |= {name: version for name, version in pins_here if names.count(name) == 1}
    return pins
