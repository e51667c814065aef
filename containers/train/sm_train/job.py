"""One training job as its method sees it: settings, data, and where things go."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sm_train.contract import Paths
from sm_train.data.cache import dataset_on_disk
from sm_train.errors import UserError
from sm_train.platform.stopping import StopRequest
from sm_train.rows import Data
from sm_train.settings.settings import Config

TOKENISED = "tokenised"  # the folder under the checkpoints


@dataclass
class NewTokens:
    """Tokens that the base model does not use yet; some of them end an answer."""

    ids: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    modules: list[str] = field(default_factory=list)  # whose weights have a row for each token
    rows_before: int | None = None  # of these weights, where they were made larger


@dataclass(frozen=True)
class Job:
    """Everything that a method's `train` needs."""

    paths: Paths
    config: Config
    data: Data
    model_source: str  # Hub id or directory of the base model
    stop: StopRequest
    started: float  # time.time() when the process began
    new_tokens: NewTokens = field(default_factory=NewTokens)  # filled with tokenizer and model
    learning: Mapping[str, Any] = field(default_factory=dict)  # learning.Counts by split
    # What is done instead of training, with the trainer, the tokenizer and the test rows.
    instead: Callable[[Any, Any, Any], None] | None = None
    model_origin: str = ""  # by what the base model is recognised, where it was merged first

    @property
    def is_main(self) -> bool:
        """Whether this process writes the logs and the artefact (rank 0)."""
        return int(os.environ.get("RANK", "0")) == 0

    @property
    def has_images(self) -> bool:
        """Whether the rows are of texts and images."""
        return self.data.has_images

    def dataset(self, split: str) -> Any:
        """The rows of a split as a `datasets.Dataset`, or None without that channel."""
        rows = self.data.split(split)
        if rows is None:
            return None
        try:
            return dataset_on_disk(_same_columns(rows), self.paths.checkpoints / TOKENISED)
        except (ValueError, TypeError, OverflowError) as error:
            raise UserError(
                f"a column mixes kinds of values: {error}",
                field=f"channel {split}",
                fix="give each column one type, or remove the column",
            ) from error


def _same_columns(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with every column that any of them has: Arrow would keep those of the first."""
    columns = dict.fromkeys(name for row in rows for name in row)
    if all(len(row) == len(columns) for row in rows):
        return rows
    empty: dict[str, Any] = {
        name: {} if name == "chat_template_kwargs" else None for name in columns
    }
    return [{**empty, **row} for row in rows]
