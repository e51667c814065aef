"""The rows of a job, by split, and where each was found; a row as the model gets it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

SPLITS = ("train", "validation", "test")
Row = dict[str, Any]
Rows = list[Row]


@dataclass(frozen=True)
class Origin:
    """Where a row was found: what rejected.jsonl says of it."""

    channel: str
    file: str
    number: int


@dataclass(frozen=True)
class Stream:
    """Train rows that are read while training, over and over."""

    sources: tuple[tuple[Callable[[], Iterator[Row]], float], ...]  # with their shares
    rows: int | None  # of one pass over all; None where nobody counted


@dataclass(frozen=True)
class Data:
    """The rows of each split; a split without a channel is None.

    Where there is a `stream`, `train` has its first rows alone.
    """

    train: Rows
    validation: Rows | None
    test: Rows | None
    rejected: dict[str, int] = field(default_factory=dict)  # by split
    origins: dict[str, list[Origin]] = field(default_factory=dict)  # by split, of each row
    notes: tuple[str, ...] = ()  # what was not read, for the log
    stream: Stream | None = None

    @property
    def has_images(self) -> bool:
        """Whether the rows are of texts and images."""
        return bool(self.train) and self.train[0].get("images") is not None

    def split(self, name: str) -> Rows | None:
        """train, validation or test."""
        rows: Rows | None = getattr(self, name)
        return rows


@dataclass(frozen=True)
class Tokens:
    """One sequence of a row. `learnt` says of each token whether the loss looks at it."""

    ids: list[int]
    learnt: list[bool]
    name: str = ""  # chosen, rejected; empty where a row has one sequence
    note: str = ""  # what is learnt beside tokens, such as a label
    cut: int = 0  # tokens that max_length took off
    uncut: tuple[int, ...] = ()  # all ids, where some were taken off
    answer: int = 0  # where in all ids the answer begins
    differs: bool = False  # whether the prompt's end is tokenised otherwise when the answer follows

    @property
    def whole(self) -> list[int]:
        """The ids before max_length."""
        return list(self.uncut) or self.ids

    @property
    def learnt_count(self) -> int:
        """How many tokens the loss looks at."""
        return sum(self.learnt)
