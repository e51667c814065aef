"""Cells that hold nothing, or a word that means nothing."""

from __future__ import annotations

from collections import Counter
from typing import Any

from sm_launch.data.chunks import is_null
from sm_launch.job.data import DataConfig

ANSWERS = frozenset({"completion", "chosen", "rejected", "target"})
"""Columns in which `none` or `-` is an answer."""

Taken = Counter[tuple[str, str]]
"""Column and word to the rows in which the word was taken for a missing value."""


def is_blank(value: Any) -> bool:
    """Whether a cell is null, or text without a character."""
    return is_null(value) or (isinstance(value, str) and not value.strip())


class MissingWords:
    """Tells missing values.

    Args:
        config: names the words.
    """

    def __init__(self, config: DataConfig) -> None:
        self.spellings = frozenset(config.missing.values)
        self._longest = max(map(len, self.spellings), default=0)
        self._given = "values" in config.missing.model_fields_set

    def is_missing(self, name: str, value: Any, taken: Taken) -> bool:
        """Whether a cell of this column has no value; a word that means so is counted."""
        if not isinstance(value, str):
            return is_null(value)
        bare = value.strip()
        if not bare:
            return True
        if name in ANSWERS and not self._given:
            return False
        if len(bare) > self._longest or bare.casefold() not in self.spellings:
            return False
        taken[name, bare] += 1
        return True
