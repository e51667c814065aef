"""Labels as people type them, made into the labels that the model learns."""

from __future__ import annotations

import ast
import json
import re
import unicodedata
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from sm_launch.data.steps import check_characters, strip_control_characters
from sm_launch.job.data import DataConfig

_REMEMBERED = 10_000
"""Spellings whose label is remembered: few in any label column, many in one that is text."""
_WHOLE_FLOAT = re.compile(r"-?\d+\.0+")
_MARKS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}

Label = str | tuple[str, ...]
"""Of a row: its class, or where a text may have several labels all of them, by name."""


class LabelReader:
    """Maps a raw cell to an allowed label, or to its tidy spelling where all labels are allowed.

    Args:
        config: gives the map, the allowed labels and whether case matters.
    """

    def __init__(self, config: DataConfig) -> None:
        self._fold = config.normalise_labels
        allowed: Iterable[str] | None = config.labels
        if allowed is None and config.label_map:
            allowed = dict.fromkeys(config.label_map.values())
        self.allowed = list(allowed) if allowed is not None else None
        """In the order of the configuration; None: whatever the data has."""
        known = {self._key(label): label for label in self.allowed or ()}
        known |= {self._key(raw): label for raw, label in config.label_map.items()}
        self._known = known
        self._read: dict[str, str | None] = {}

    def _key(self, raw: str) -> str:
        return fold(raw) if self._fold else tidy(raw)

    def read(self, raw: Any) -> str | None:
        """The label, or None where it is not an allowed one.

        Raises:
            UnicodeError: its bytes are neither UTF-8 nor cp1252.
        """
        if isinstance(raw, str):
            if raw not in self._read and len(self._read) < _REMEMBERED:
                self._read[raw] = self._read_text(raw)
            return self._read[raw] if raw in self._read else self._read_text(raw)
        return self._read_text(_plain(raw))

    def renamed(self, raw: Any) -> Any:
        """What the map makes of a cell that holds a number or its name; else the cell.

        Raises:
            UnicodeError: its bytes are neither UTF-8 nor cp1252.
        """
        if not self._known or is_list(raw) or isinstance(raw, bytes):
            return raw
        return self._known.get(self._key(_plain(raw)), raw)

    def _read_text(self, text: str) -> str | None:
        if not self._known and self.allowed is None:
            return tidy(text)
        return self._known.get(self._key(text))


def tidy(raw: str) -> str:
    """A label without control characters and needless white space; `1.0` is `1`.

    Raises:
        UnicodeError: its bytes are neither UTF-8 nor cp1252.
    """
    text = strip_control_characters(check_characters(raw))
    text = " ".join(unicodedata.normalize("NFKC", text).split())
    text.encode()
    return text.partition(".")[0] if _WHOLE_FLOAT.fullmatch(text) else text


def fold(label: str) -> str:
    """What two spellings of one label have in common: all but case and white space."""
    return tidy(label).casefold()


def names_in(label: Label | None) -> tuple[str, ...]:
    """The names of a row's label: none, one or several."""
    if label is None:
        return ()
    return (label,) if isinstance(label, str) else label


def read_mark(raw: Any) -> bool | None:
    """Whether a column of 0 and 1 says that its label applies; None for anything else."""
    return _MARKS.get(fold(_plain(raw)))


def is_list(raw: Any) -> bool:
    """Whether a cell holds several labels: a list, or a text that is one in JSON or Python."""
    return isinstance(raw, dict) or as_list(raw) is not None


def as_list(raw: Any) -> list[Any] | None:
    """A list, or what a text is that is one in JSON or Python; None for anything else."""
    if not isinstance(raw, str):
        return list(raw) if isinstance(raw, list | tuple) else None
    text = raw.strip()
    if not (text.startswith("[") and text.endswith("]")):
        return None
    for read in (json.loads, ast.literal_eval):
        try:
            parsed = read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        return parsed if isinstance(parsed, list) else None
    return None


def _plain(raw: Any) -> str:
    if isinstance(raw, bool):
        return str(raw).lower()
    if isinstance(raw, float) and raw.is_integer():
        return str(int(raw))
    return format(raw, "f") if isinstance(raw, Decimal) else str(raw)
