"""A text a file, its folder's name the label: so IMDb's reviews and 20 Newsgroups are published."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from sm_launch.data.unpack import is_hidden

FORMAT = "folders"
_TEXTS = (".txt", ".text", "")
"""Endings of such files; 20 Newsgroups' have none."""


def class_folders(names: Iterable[str]) -> list[str]:
    """The folders that hold files, of the names of all files below a directory."""
    parents = {PurePosixPath(name).parent for name in names if not is_hidden(name)}
    return sorted(parent.as_posix() for parent in parents if parent.name)


def are_class_folders(names: Sequence[str]) -> bool:
    """Whether a directory looks so: two folders or more, and nothing but texts in them."""
    inside = [PurePosixPath(n) for n in names if PurePosixPath(n).parent.name and not is_hidden(n)]
    of_texts = all(path.suffix.lower() in _TEXTS for path in inside)
    return of_texts and len({path.parent for path in inside}) > 1


def written_rows(folder: Path, encoding: str | None, target: Path) -> Path:
    """The files of a folder as the rows of one, in the order of their names.

    Args:
        folder: its name is the label.
        encoding: of the files; None: UTF-8, and cp1252 where one is none.
        target: gets lines of text, label and file.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("w", encoding="utf-8", errors="surrogateescape") as lines:
        for path in sorted(each for each in folder.iterdir() if each.is_file()):
            if is_hidden(path.name):
                continue
            text = _decoded(path.read_bytes(), encoding)
            row = {"text": text, "label": folder.name, "file": path.name}
            lines.write(json.dumps(row) + "\n")
    return target


def _decoded(content: bytes, encoding: str | None) -> str:
    try:
        return content.decode(encoding or "utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace")
