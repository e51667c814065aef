"""Train rows that are read while training, for data larger than memory.

The first rows of each data set are kept, to be checked and shown as those of any job are; the
others are read, cleaned and tokenised as they come. Files that need to be read as a whole are
refused.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from sm_train.data.cleaning import Source, Tally, check_share, check_source, clean_rows
from sm_train.errors import UserError, shorten
from sm_train.log import print_line
from sm_train.rows import Origin, Row, Rows, Stream

if TYPE_CHECKING:
    from sm_train.settings.settings import Config

HEAD = 1000  # rows of each data set that are checked and shown
_ENOUGH = 1000  # rows from which on a share of bad ones says something


@dataclass(frozen=True)
class Streamed:
    """The train channels of a job that streams: their first rows, and what is read later."""

    head: Rows
    origins: list[Origin]
    rejected: int
    stream: Stream


class SourceStream:
    """The good rows of some sources, one pass after another without an end."""

    def __init__(self, sources: Sequence[Source], counted: bool) -> None:
        self._sources = sources
        self._counted = counted

    def __call__(self) -> Iterator[Row]:
        """From the beginning. Raises UserError when too many rows are bad."""
        said = self._counted
        while True:
            for source in self._sources:
                yield from self._one_pass(source, said)
            said = True

    def _one_pass(self, source: Source, said: bool) -> Iterator[Row]:
        tally = Tally()
        limit = source.config.job.max_rejected_share
        with Path(os.devnull).open("w") as record:
            for row, _ in clean_rows(source, tally, record):
                yield row
                if not said and tally.bad and tally.good >= _ENOUGH:
                    check_share(source.name, tally.good, tally.reasons, limit)
        if not said:
            check_share(source.name, tally.good, tally.reasons, limit)
            if tally.bad and os.environ.get("RANK", "0") == "0":
                why = "; ".join(f"{n} × {shorten(r)}" for r, n in tally.reasons.most_common(3))
                print_line(f"{source.name}: {tally.bad} bad rows were passed over: {why}")


def check_streaming(config: Config) -> None:
    """Refuse what a stream cannot do, before any row is read. Raises UserError."""
    job = config.job
    training: Mapping[str, Any] = config.training
    if not job.streaming:
        if job.shuffle_buffer_size is not None:
            raise _refused("shuffle_buffer_size", job.shuffle_buffer_size,
                           "is that of a stream, and streaming is not set",
                           "set streaming to true, or remove it")  # fmt: skip
        return
    bounded = int(training.get("max_steps") or -1) > 0
    wants_end = {"dataset_weights": job.dataset_weights, "packing": training.get("packing")}
    for key, value in wants_end.items():
        if value and not bounded:
            raise _refused("max_steps", training.get("max_steps"),
                           f"is wanted beside streaming and {key}: how many steps an epoch has is "
                           "not known", "set max_steps")  # fmt: skip
    if training.get("precompute_ref_log_probs"):
        raise _refused("precompute_ref_log_probs", True,
                       "goes over all rows before the first step, and a stream reads them later",
                       "remove it, or streaming")  # fmt: skip
    order = str(training.get("train_sampling_strategy") or "")
    asked = "train_sampling_strategy" in config.given
    if asked and order in ("group_by_length", "batch_rebalance"):
        raise _refused("train_sampling_strategy", order, "orders all rows, of which a stream has "
                       "but a few at a time", "remove it, or streaming")  # fmt: skip
    if job.stopping_strategy is not None:
        raise _refused("stopping_strategy", job.stopping_strategy,
                       "says when an epoch ends, and a stream begins each data set again",
                       "remove it")  # fmt: skip
    for key in ("eval_strategy", "save_strategy"):
        if key in config.given and training.get(key) == "epoch":
            raise _refused(key, "epoch", "a stream has no epochs",
                           f"set it to steps, and {key.partition('_')[0]}_steps")  # fmt: skip


def _refused(field: str, value: Any, message: str, fix: str) -> UserError:
    return UserError(message, field=field, value=value, fix=fix)


def open_streams(
    sources: Sequence[Source], config: Config, record: IO[str], notes: list[str]
) -> Streamed:
    """The first rows of each source, and what reads all of them.

    Where max_steps is not set, all are read once to count them.

    Raises UserError for files that cannot be streamed, and for sources that cannot be used.
    """
    training: Mapping[str, Any] = config.training
    counts = int(training.get("max_steps") or -1) <= 0
    head: Rows = []
    origins: list[Origin] = []
    bad = total = 0
    for source in sources:
        tally = Tally()
        pairs = clean_rows(source, tally, record)
        first = list(islice(pairs, HEAD))
        if counts:
            for _ in pairs:
                pass
        check_source(source, tally, notes)
        head += [row for row, _ in first]
        origins += [origin for _, origin in first]
        bad += tally.bad
        total += tally.good
        notes.append(_line(source, len(first), tally if counts else None))
    weights = config.job.dataset_weights
    parts = [(SourceStream(sources, counts), 1.0)]
    if weights:
        whole = sum(weights.values())
        parts = [(SourceStream([s], counts), weights[s.data_set] / whole) for s in sources]
    return Streamed(head, origins, bad, Stream(tuple(parts), total if counts else None))


def _line(source: Source, first: int, tally: Tally | None) -> str:
    told = "not counted, for max_steps says when to end"
    if tally is not None:
        bad = f", {tally.bad} bad ones in output/data/rejected.jsonl" if tally.bad else ""
        told = f"{tally.good} rows{bad}, read once to count them"
    return f"{source.name} is streamed: {told}; the first {first} rows are shown and counted below"
