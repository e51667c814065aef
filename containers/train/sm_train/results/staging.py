"""The model directory gets a whole artefact or none: it is written aside and moved in place."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_MOUNTS = Path("/proc/self/mountinfo")
_CONFIG = "config.json"  # without it there is no model


@contextmanager
def staged(target: Path) -> Iterator[Path]:
    """A folder to write to, which takes the place of `target` at the end.

    After an error, on a full disk too, nothing of it stays; after a kill `discard_half_written`
    removes it. What an earlier run left in `target` is replaced.
    """
    with scratch(target) as folder:
        yield folder
        for path in folder.rglob("*.safetensors"):
            # safetensors lets the owner alone read its files; the server may be another user.
            path.chmod(path.stat().st_mode | 0o044)
        if folder.parent == target:
            _move_into(folder, target)
        else:
            _swap(folder, target)


@contextmanager
def scratch(target: Path) -> Iterator[Path]:
    """A folder on the disk of `target`, of which nothing stays. Raises OSError without one."""
    discard_half_written(target)
    folder = _writing_folder(target)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def discard_half_written(target: Path) -> None:
    """Remove what a killed run was writing; bring back what it was about to replace."""
    former = _former(target)
    if former.is_dir() and not target.exists():
        former.rename(target)
    for folder in (former, _beside(target), _within(target)):
        shutil.rmtree(folder, ignore_errors=True)


def _writing_folder(target: Path) -> Path:
    """Beside the target; within it where it is a disk of its own or its parent is not ours."""
    ours = os.access(target.parent, os.W_OK) or not target.parent.exists()
    alone = target.is_symlink() or _is_mounted(target)
    return _within(target) if alone or not ours else _beside(target)


def _beside(target: Path) -> Path:
    return target.with_name(f".{target.name}-writing")


def _former(target: Path) -> Path:
    return target.with_name(f".{target.name}-former")


def _within(target: Path) -> Path:
    return target / ".writing"


def _is_mounted(path: Path) -> bool:
    """Docker's bind mounts have their parent's device number: only the kernel's list knows."""
    if os.path.ismount(path):
        return True
    try:
        lines = _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return False
    points = (line.split(" ")[4] for line in lines)
    plain = {re.sub(r"\\(\d{3})", lambda m: chr(int(m[1], 8)), point) for point in points}
    return str(path.resolve()) in plain


def _swap(folder: Path, target: Path) -> None:
    former = _former(target)
    if target.exists():
        target.rename(former)
    folder.rename(target)
    shutil.rmtree(former, ignore_errors=True)


def _move_into(folder: Path, target: Path) -> None:
    """File by file; config.json goes first and comes last."""
    (target / _CONFIG).unlink(missing_ok=True)
    for path in target.iterdir():
        if path != folder:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    for path in sorted(folder.iterdir(), key=lambda p: p.name == _CONFIG):
        path.rename(target / path.name)
