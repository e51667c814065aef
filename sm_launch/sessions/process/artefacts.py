"""Files of a run: linked inputs, packed outputs, safe extraction, the ends of logs."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

# Weights are noise to gzip: the fastest level loses almost nothing.
_COMPRESSION_LEVEL = 1


def link_tree(source: Path, target: Path) -> None:
    """Make `target` a directory that shows what is in `source`, without copying.

    Directories are real and files are links, so that a job which adds or deletes files does so in
    its own directory. A `source` that is a file appears under its own name.
    """
    target.mkdir(parents=True, exist_ok=True)
    if source.is_file():
        (target / source.name).symlink_to(source)
        return
    for entry in sorted(source.iterdir()):
        if entry.is_dir():
            link_tree(entry, target / entry.name)
        else:
            (target / entry.name).symlink_to(entry)


def pack(directory: Path, archive: Path) -> None:
    """Write the contents of `directory` to a .tar.gz, complete or not at all."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    draft = archive.with_name(f".{archive.name}.part")
    try:
        with tarfile.open(draft, "w:gz", compresslevel=_COMPRESSION_LEVEL) as tar:
            for entry in sorted(directory.iterdir()):
                tar.add(entry, arcname=entry.name)
        draft.replace(archive)
    finally:
        draft.unlink(missing_ok=True)


def unpack(archive: Path, target: Path) -> None:
    """Extract a .tar.gz below `target`.

    Raises:
        tarfile.TarError: not an archive, or one that reaches out of `target` (a path with `..`,
            an absolute one, a link to elsewhere, a device).
    """
    target.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive, "r:*") as tar:
        if hasattr(tarfile, "data_filter"):
            tar.extractall(target, filter="data")
            return
        # Python before 3.11.4, which Debian 12 has, knows no filters.
        for member in tar:
            _refuse_unsafe(member, target)
            tar.extract(member, target, set_attrs=False)


def _refuse_unsafe(member: tarfile.TarInfo, target: Path) -> None:
    inside = (target / member.name).resolve().is_relative_to(target.resolve())
    if not inside or not (member.isfile() or member.isdir()):
        raise tarfile.ExtractError(f"{member.name!r} is a link, a device or leads out of the model")


def make_read_only(directory: Path) -> None:
    """Forbid writing, as hosting does with /opt/ml/model; what links point to is not touched."""
    for parent, _, files in os.walk(directory):
        for name in files:
            path = Path(parent) / name
            if not path.is_symlink():
                path.chmod(0o444)
        Path(parent).chmod(0o555)


def last_lines(path: Path, characters: int) -> str:
    """The last whole lines of a text file, at most `characters` long."""
    if not path.is_file():
        return ""
    with path.open("rb") as stream:
        stream.seek(0, os.SEEK_END)
        stream.seek(max(0, stream.tell() - 4 * characters))
        text = stream.read().decode("utf-8", "replace").strip()
    tail = text[-characters:]
    if len(tail) < len(text) and "\n" in tail:
        tail = tail.split("\n", 1)[1]
    return tail


def read_lines(path: Path, cursor: object) -> tuple[list[str], int]:
    """The whole lines behind a position.

    Args:
        path: the log; it may not exist yet.
        cursor: what the last call returned, or None to begin at the start.

    Returns:
        The new lines without line ends, and the cursor of the next call. A last line that is not
        ended yet comes with the next call.
    """
    start = cursor if isinstance(cursor, int) else 0
    if not path.is_file():
        return [], start
    with path.open("rb") as log:
        log.seek(start)
        content = log.read()
    end = content.rfind(b"\n") + 1
    # A progress bar's carriage returns would otherwise make one endless line.
    text = content[:end].decode("utf-8", errors="replace").replace("\r", "\n")
    return text.split("\n")[:-1], start + end
