"""Labels of a classifier's channels, looked at before a training is paid for."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from sm_launch.data.chunks import cell, find_column, is_null
from sm_launch.data.labels import as_list
from sm_launch.data.read import read
from sm_launch.data.sources import locate
from sm_launch.data.spelling import near_spellings
from sm_launch.data.write import MANIFEST
from sm_launch.errors import LaunchError
from sm_launch.job.data import DataConfig

_MOST_ROWS = 100_000


def label_warnings(channel: Path, column: str) -> list[str]:
    """A sentence for each group of labels that are probably one.

    Args:
        channel: the train channel; what `data prepare` wrote, or any file or directory.
        column: that holds the label.
    """
    counts = _prepared(channel) or _read(channel, column)
    return [f"{spellings}; data.label_map makes them one" for spellings in near_spellings(counts)]


def _prepared(channel: Path) -> dict[str, int]:
    try:
        manifest = json.loads((channel.parent / MANIFEST).read_text(encoding="utf-8"))
        labels: dict[str, int] = manifest["splits"][channel.name]["labels"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return labels


def _read(channel: Path, column: str) -> dict[str, int]:
    counts: Counter[str] = Counter()
    config = DataConfig(train=str(channel))
    with tempfile.TemporaryDirectory(prefix="sm-launch-data-") as scratch:
        try:
            for source in locate(config, base=Path(), fetch=Path, scratch=Path(scratch)):
                for chunk in read(source, config):
                    place = find_column(chunk.names, column)
                    for row in chunk.rows:
                        counts.update(_labels(cell(row, place)))
                    if counts.total() >= _MOST_ROWS:
                        return counts
        except LaunchError:  # the container says what is wrong with it
            return {}
    del counts[""]
    return counts


def _labels(value: Any) -> list[str]:
    """The names in a cell: one, or those of a list."""
    parts = as_list(value)
    return ["" if is_null(part) else str(part) for part in ([value] if parts is None else parts)]
