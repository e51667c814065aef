"""The failure file, which SageMaker shows as FailureReason, also on a disk that is full.

Its room is taken at the start: a file whose blocks and name are there already, and that becomes the
failure file when there is something to say.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from sm_train.contract import FAILURE_CHARACTERS, Paths

_ROOM_BYTES = 16384  # 1024 characters of up to four bytes, and a block to spare


def reserve(paths: Paths) -> None:
    """Take the room, if the disk has it; keep what an earlier call took."""
    room = _room(paths)
    try:
        room.parent.mkdir(parents=True, exist_ok=True)
        if not room.exists() or room.stat().st_size < _ROOM_BYTES:
            room.write_bytes(b" " * _ROOM_BYTES)
    except OSError:
        _remove(room)


def give_back(paths: Paths) -> None:
    """The job has succeeded: nothing is left of the reserve."""
    _remove(_room(paths))


def write_failure(paths: Paths, reason: str) -> None:
    """Keep the first reason: with several processes the others only report its consequences.

    A reason that cannot be written is lost here and stands in the log.
    """
    text = reason[:FAILURE_CHARACTERS].encode("utf-8", "backslashreplace")
    own = _room(paths).with_suffix(f".{os.getpid()}")
    try:
        if paths.failure.exists():
            return
        paths.failure.parent.mkdir(parents=True, exist_ok=True)
        _write(own, _room(paths), text)
        os.link(own, paths.failure)  # one move, and only where there is none
    except FileExistsError:
        return
    except OSError:
        _write_plainly(paths.failure, text)
    finally:
        _remove(own)


def _write(own: Path, room: Path, text: bytes) -> None:
    """Into the reserved blocks, which one process alone can take; else into new ones."""
    try:
        room.rename(own)
    except FileNotFoundError:
        own.write_bytes(text)
        return
    with own.open("r+b") as file:
        file.write(text)
        file.truncate()


def _write_plainly(failure: Path, text: bytes) -> None:
    """On a file system without links, or whose disk gives nothing."""
    with suppress(OSError), failure.open("xb") as file:
        file.write(text)


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)


def _room(paths: Paths) -> Path:
    return paths.failure.with_name(".reserved")
