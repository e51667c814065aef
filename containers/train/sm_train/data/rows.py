"""The rows of a job, by split, and where each was found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

SPLITS = ("train", "validation", "test")


Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Origin:
    """Where a row was found: what rejected.jsonl says of it."""

    channel: str
    file: str
    number: int


@dataclass(frozen=True)
class Data:
    """The rows of each split; a split without a channel is None."""

    train: Rows
    validation: Rows | None
    test: Rows | None
    rejected: dict[str, int] = field(default_factory=dict)  # by split
    origins: dict[str, list[Origin]] = field(default_factory=dict)  # by split, of each row
    notes: tuple[str, ...] = ()  # what was not read, for the log

    def split(self, name: str) -> Rows | None:
        """train, validation or test."""
        rows: Rows | None = getattr(self, name)
        return rows
