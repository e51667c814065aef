"""A stream of train rows as the trainer takes it, and the settings that follow from its length."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from sm_train.data.mixing import data_seed
from sm_train.errors import UserError
from sm_train.job import Job
from sm_train.log import print_line
from sm_train.loop.token_columns import COUNTED
from sm_train.rows import Row, Stream

SHUFFLE_BUFFER = 1000  # datasets.IterableDataset.shuffle's own default
_LOOKED_AT = 100_000  # rows, of which some should teach something
_LEFT_OUT = (*COUNTED, "length")  # columns that no model takes
_EVALUATIONS = 10  # where the length of a pass is not known


def streamed(job: Job, columns: Callable[[Row], dict[str, Any]]) -> Any:
    """The train rows as a `datasets.IterableDataset` of tokens, without an end.

    The trainer takes max_steps of its batches; a resumed job passes over those that it has had.

    Args:
        job: with a stream.
        columns: a row as the trainer takes it; `reason` says why one teaches nothing.
    """
    from datasets import IterableDataset, interleave_datasets
    from datasets.iterable_dataset import ExamplesIterable

    stream = job.data.stream
    assert stream is not None
    parts = [
        IterableDataset(ExamplesIterable(_Tokens(job, columns, read), {}))
        for read, _ in stream.sources
    ]
    seed = data_seed(job.config)
    mixed = parts[0]
    if len(parts) > 1:
        mixed = interleave_datasets(parts, [share for _, share in stream.sources], seed=seed)
    size = job.config.job.shuffle_buffer_size
    size = SHUFFLE_BUFFER if size is None else size
    return mixed.shuffle(seed=seed, buffer_size=size) if size else mixed


def one_by_one(
    columns: Callable[[list[Row]], dict[str, list[Any]]],
) -> Callable[[Row], dict[str, Any]]:
    """What makes the columns of several rows, for a row at a time."""
    return lambda row: {name: values[0] for name, values in columns([row]).items()}


class _Tokens:
    """The rows of a source as tokens, without those that teach nothing."""

    def __init__(
        self,
        job: Job,
        columns: Callable[[Row], dict[str, Any]],
        read: Callable[[], Iterator[Row]],
    ) -> None:
        self._columns, self._read = columns, read
        self._says = job.is_main

    def __call__(self) -> Iterator[tuple[int, Row]]:
        """With their numbers, as `datasets` wants examples. Raises UserError where none is left."""
        kept = useless = 0
        first: frozenset[str] = frozenset()
        for number, row in enumerate(self._read()):
            columns = self._columns(row)
            reason = columns.pop("reason", "")
            if not reason:
                kept += 1
                first = first or frozenset(columns)
                _check_columns(first, frozenset(columns), number)
                yield number, {name: v for name, v in columns.items() if name not in _LEFT_OUT}
                continue
            useless += 1
            if not kept and useless >= _LOOKED_AT:
                raise UserError(
                    f"teaches nothing in its first {useless} rows: {reason}",
                    field="channel train",
                    fix="raise max_length, or shorten the prompts",
                )
            if self._says and math.log10(useless).is_integer():
                print_line(
                    f"channel train: {useless} of {number + 1} rows so far passed over: {reason}"
                )


def _check_columns(first: frozenset[str], columns: frozenset[str], number: int) -> None:
    """A batch is made of what its first row has: another's margin would be lost, or be missing."""
    if columns == first:
        return
    name = sorted(columns ^ first)[0]
    has, had = ("has", "have none") if name in columns else ("has no", "have one")
    raise UserError(
        f"row {number + 1} {has} {name}, and the rows before it {had}",
        field="channel train",
        fix=f"give {name} to every row, or to none",
    )


def warn_of_order(job: Job, labels: Collection[str]) -> None:
    """Say where the first rows of a stream are all of one class: the files may be sorted by it."""
    rows = len(job.data.train)
    if len(labels) == 1 and rows > 1 and job.is_main:
        print_line(
            f"the first {rows} rows of the stream are all of {next(iter(labels))!r}: files in the "
            "order of their classes teach one after the other, beyond shuffle_buffer_size rows; "
            "shuffle them"
        )


def stream_settings(stream: Stream, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Steps for epochs: how many there are, and after how many it is evaluated and saved.

    Args:
        stream: of the train rows.
        settings: of the training config, ours and the user's.
    """
    changed: dict[str, Any] = {"train_sampling_strategy": "random"}
    batch = int(settings.get("per_device_train_batch_size") or 8)
    accumulated = int(settings.get("gradient_accumulation_steps") or 1)
    rows_a_step = batch * accumulated * int(os.environ.get("WORLD_SIZE", "1"))
    steps = int(settings.get("max_steps") or -1)
    every = max(steps // _EVALUATIONS, 1)
    if steps <= 0 and stream.rows:
        epochs = float(settings.get("num_train_epochs") or 3)
        steps = math.ceil(stream.rows * epochs / rows_a_step)
        every = math.ceil(stream.rows / rows_a_step)
    changed["max_steps"] = steps
    for kind in ("eval", "save"):
        strategy, size = f"{kind}_strategy", f"{kind}_steps"
        if settings.get(strategy) == "epoch":
            changed |= {strategy: "steps", size: settings.get(size) or every}
    return changed
