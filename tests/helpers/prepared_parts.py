"""What several machines have prepared, compared with what one has."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

SPLITS = ("train", "validation", "test")


def check_equal(several: Sequence[Path], one: Path) -> None:
    """Fail where the outputs of several machines, the leader's first, are unlike one's."""
    for split in SPLITS:
        assert rows(several, split) == rows([one], split), split
    rejected = "".join(path.read_text() for path in parts(several, "rejected"))
    assert rejected == (one / "rejected.jsonl").read_text()
    assert manifest(several[0]) == manifest(one)
    assert not [path for each in several[1:] for path in each.glob("*.json")]


def parts(outputs: Sequence[Path], name: str) -> list[Path]:
    """The files of a channel in the order of their names, wherever they are."""
    files = (path for output in outputs for path in (output / name).glob("*"))
    return sorted(files, key=lambda path: path.name)


def rows(outputs: Sequence[Path], split: str) -> Any:
    """The content of a channel, as one file."""
    paths = parts(outputs, split)
    if any(path.suffix == ".parquet" for path in paths):
        return [row for path in paths for row in pq.read_table(path).to_pylist()]
    texts = [path.read_text() for path in paths]
    if any(path.suffix == ".csv" for path in paths):
        return texts[0] + "".join(text.partition("\n")[2] for text in texts[1:])
    return "".join(texts)


def manifest(output: Path) -> dict[str, Any]:
    """manifest.json, less how the channels are cut into files."""
    document: dict[str, Any] = json.loads((output / "manifest.json").read_text())
    for split in document["splits"].values():
        for key in ("path", "sha256", "parts"):
            split.pop(key, None)
    return document
