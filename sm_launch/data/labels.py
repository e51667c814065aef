"""Labels as people type them, made into the labels that the model learns."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Any

from sm_launch.data.config import DataConfig

_REMEMBERED = 10_000
"""Spellings whose label is remembered: few in any label column, many in one that is text."""
_WHOLE_FLOAT = re.compile(r"-?\d+\.0+")


class LabelReader:
    """Maps a raw cell to an allowed label.

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
        text = " ".join(unicodedata.normalize("NFKC", raw).split())
        return text.casefold() if self._fold else text

    def read(self, raw: Any) -> str | None:
        """The label, or None where it is not an allowed one."""
        if isinstance(raw, str):
            if raw not in self._read and len(self._read) < _REMEMBERED:
                self._read[raw] = self._read_text(raw)
            return self._read[raw] if raw in self._read else self._read_text(raw)
        return self._read_text(_plain(raw))

    def _read_text(self, text: str) -> str | None:
        key = self._key(text)
        if _WHOLE_FLOAT.fullmatch(key):
            key = key.partition(".")[0]
        return self._known.get(key, key if self.allowed is None else None)


def _plain(raw: Any) -> str:
    if isinstance(raw, bool):
        return str(raw).lower()
    if isinstance(raw, float) and raw.is_integer():
        return str(int(raw))
    return str(raw)
