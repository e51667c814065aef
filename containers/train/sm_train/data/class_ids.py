"""Class ids in the files of `datasets`, with the names that the file says they stand for.

The launcher reads them by itself (`sm_launch.data.class_ids`): it shares no code with the images.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Self

Reader = Callable[[Any], Any]
_KEY = b"huggingface"  # where `datasets` keeps its features in the schema of a Parquet file


class ClassId(int):
    """An id that knows its class's name."""

    name: str

    def __new__(cls, number: int, name: str) -> Self:
        """An int, which numbers to predict stay."""
        self = super().__new__(cls, number)
        self.name = name
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """For pickle."""
        return ClassId, (int(self), self.name)


def features_in(metadata: Mapping[bytes, bytes] | None) -> dict[str, Any]:
    """What `datasets` wrote of each column into a file's schema; empty where another one wrote."""
    try:
        features = json.loads((metadata or {})[_KEY])["info"]["features"]
    except (KeyError, TypeError, ValueError):
        return {}
    return features if isinstance(features, dict) else {}


def readers(features: Mapping[str, Any]) -> dict[str, Reader]:
    """Column to what makes a ClassId of its ids; -1, which is no label, is None."""
    by_column = {column: _reader(feature) for column, feature in features.items()}
    return {column: reader for column, reader in by_column.items() if reader is not None}


def _reader(feature: Any) -> Reader | None:
    if isinstance(feature, list) and len(feature) == 1:
        feature = {"feature": feature[0]}
    if not isinstance(feature, dict):
        return None
    names = feature.get("names")
    if feature.get("_type") == "ClassLabel" and isinstance(names, list):
        return partial(_read_id, names=names)
    inner = _reader(feature.get("feature"))
    return None if inner is None else partial(_read_list, inner=inner)


def _read_id(value: Any, *, names: list[str]) -> Any:
    if not isinstance(value, int):
        return value
    return ClassId(value, names[value]) if 0 <= value < len(names) else None


def _read_list(value: Any, *, inner: Reader) -> Any:
    return [inner(each) for each in value] if isinstance(value, list) else value
