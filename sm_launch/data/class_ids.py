"""Class ids in the files of `datasets`, read as the names that the file says they stand for."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Self

from sm_launch.job.data import DataConfig
from sm_launch.job.tasks import TASKS

Reader = Callable[[Any], Any]
"""From a cell as it is stored to the cell with names in place of ids."""
_Read = Callable[[int, list[str]], Any]
_KEY = b"huggingface"
"""Under which `datasets` keeps its features in the schema of a Parquet or Arrow file."""


def features_in(metadata: Mapping[bytes, bytes] | None) -> dict[str, Any]:
    """What `datasets` wrote of each column into a file's schema; empty where another one wrote."""
    try:
        features = json.loads((metadata or {})[_KEY])["info"]["features"]
    except (KeyError, TypeError, ValueError):
        return {}
    return features if isinstance(features, dict) else {}


class ClassId(int):
    """An id that knows its class's name."""

    name: str

    def __new__(cls, number: int, name: str) -> Self:
        self = super().__new__(cls, number)
        self.name = name
        return self


def readers(features: Mapping[str, Any], config: DataConfig) -> dict[str, Reader]:
    """How the columns with class ids are read; the others are left out.

    A job that predicts numbers, or whose `label_map` names ids, gets the ids. -1, by which
    `datasets` writes that a row has no label, is None to all.
    """
    named = _wants_names(config)
    return _readers(features, lambda number, names: names[number] if named else number)


def both(features: Mapping[str, Any]) -> dict[str, Reader]:
    """The same for whoever only knows later whether ids or names are meant: a ClassId each."""
    return _readers(features, lambda number, names: ClassId(number, names[number]))


def _wants_names(config: DataConfig) -> bool:
    if config.label_map:
        return not all(raw.strip().isdecimal() for raw in config.label_map)
    required = TASKS[config.task].shapes[0].required
    return "tags" in required or required.get("label") in ("label", "labels")


def _readers(features: Mapping[str, Any], read: _Read) -> dict[str, Reader]:
    by_column = {column: _reader(feature, read) for column, feature in features.items()}
    return {column: reader for column, reader in by_column.items() if reader is not None}


def _reader(feature: Any, read: _Read) -> Reader | None:
    if isinstance(feature, list) and len(feature) == 1:
        feature = {"feature": feature[0]}
    if not isinstance(feature, dict):
        return None
    names = feature.get("names")
    if feature.get("_type") == "ClassLabel" and isinstance(names, list):
        return partial(_read_id, names=names, read=read)
    inner = _reader(feature.get("feature"), read)
    return None if inner is None else partial(_read_list, inner=inner)


def _read_id(value: Any, *, names: list[str], read: _Read) -> Any:
    if not isinstance(value, int):
        return value
    return read(value, names) if 0 <= value < len(names) else None


def _read_list(value: Any, *, inner: Reader) -> Any:
    return [inner(each) for each in value] if isinstance(value, list) else value
