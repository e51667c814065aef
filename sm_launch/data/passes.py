"""The two passes over the chunks, as functions that any worker process can run.

First pass: clean every row, spill the chunk to disk, and return only what has to be compared
across chunks (keys, labels, lengths). Then the caller decides where each row goes. Second pass:
read the spilled chunk again and encode its rows for the channels and for rejected.jsonl.
"""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sm_launch.data.chunks import Chunk
from sm_launch.data.config import OutputFormat
from sm_launch.data.rows import Example, Rejected, RowCleaner, rejection
from sm_launch.data.write import encode_rows, encode_text, json_line

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass
class Spilled:
    """A cleaned chunk between the passes."""

    chunk: Chunk
    location: str
    kept: list[int]
    """Places in `chunk.rows` of the rows that have values."""
    values: list[tuple[Any, ...]]
    rejected: list[dict[str, Any]]


@dataclass
class Summary:
    """What the first pass tells of one chunk."""

    path: Path
    split: str
    source: str
    bytes_read: int
    rows: int
    keys: NDArray[np.uint64]
    labels: list[str | None]
    characters: NDArray[np.int32]
    groups: NDArray[np.uint64]
    times: NDArray[np.float64]
    signatures: NDArray[np.uint16]
    """A row each; without columns where near duplicates stay."""
    reasons: Counter[str] = field(default_factory=Counter)
    examples: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The first rejected row of each reason."""


@dataclass
class Job:
    """One chunk to clean."""

    chunk: Chunk
    location: str
    spill: Path


def clean_chunk(job: Job, *, cleaner: RowCleaner) -> Summary:
    """First pass over one chunk."""
    chunk = job.chunk
    places = cleaner.places(chunk)
    reject = partial(rejection, location=job.location)
    rejected = [
        reject(row=bad.row, line=bad.line, reason="malformed_row", detail=bad.detail, raw=bad.raw)
        for bad in chunk.bad
    ]
    kept, examples = [], []
    for at, cells in enumerate(chunk.rows):
        try:
            examples.append(cleaner.clean(cells, places))
            kept.append(at)
        except Rejected as verdict:
            rejected.append(
                reject(
                    row=chunk.numbers[at],
                    line=chunk.line(at),
                    reason=verdict.reason,
                    detail=verdict.detail,
                    raw=chunk.raw(at),
                )
            )
    rejected.sort(key=_row_number)
    spilled = Spilled(chunk, job.location, kept, [example.values for example in examples], rejected)
    job.spill.write_bytes(pickle.dumps(spilled, protocol=pickle.HIGHEST_PROTOCOL))
    return _summary(job, examples, rejected)


def _row_number(rejected: dict[str, Any]) -> int:
    return int(rejected["row"])


def _summary(job: Job, examples: list[Example], rejected: list[dict[str, Any]]) -> Summary:
    import numpy as np

    first: dict[str, dict[str, Any]] = {}
    for record in rejected:
        first.setdefault(record["reason"], record)
    return Summary(
        path=job.spill,
        split=job.chunk.split,
        source=job.chunk.source,
        bytes_read=job.chunk.bytes_read,
        rows=len(job.chunk),
        keys=np.array([example.key for example in examples], dtype=np.uint64),
        labels=[example.label for example in examples],
        characters=np.array([example.characters for example in examples], dtype=np.int32),
        groups=np.array([example.group for example in examples], dtype=np.uint64),
        times=np.array([example.time for example in examples], dtype=np.float64),
        signatures=_signatures(examples),
        reasons=Counter(record["reason"] for record in rejected),
        examples=first,
    )


def _signatures(examples: list[Example]) -> NDArray[np.uint16]:
    import numpy as np

    found = [example.signature for example in examples if example.signature is not None]
    return np.stack(found) if found else np.zeros((len(examples), 0), dtype=np.uint16)


@dataclass
class Verdict:
    """Where the kept rows of one spilled chunk go."""

    path: Path
    splits: Sequence[int]
    """Index into SPLITS of each kept row; negative: rejected."""
    reasons: dict[int, tuple[str, str]]
    """Place among the kept rows to reason and detail of those rejected late."""


@dataclass
class Encoded:
    """The bytes that one chunk adds to the output files."""

    channels: dict[int, bytes]
    rejected: bytes


def encode_chunk(verdict: Verdict, *, names: list[str], output_format: OutputFormat) -> Encoded:
    """Second pass over one chunk."""
    # Written by `clean_chunk` into a directory that only this user can write.
    spilled: Spilled = pickle.loads(verdict.path.read_bytes())  # noqa: S301
    verdict.path.unlink()
    by_split: dict[int, list[tuple[Any, ...]]] = {}
    for values, split in zip(spilled.values, verdict.splits, strict=True):
        if split >= 0:
            by_split.setdefault(split, []).append(values)
    channels = {split: encode_rows(rows, names, output_format) for split, rows in by_split.items()}
    return Encoded(channels, _encode_rejected(spilled, verdict))


def _encode_rejected(spilled: Spilled, verdict: Verdict) -> bytes:
    chunk = spilled.chunk
    late = [
        rejection(
            location=spilled.location,
            row=chunk.numbers[spilled.kept[at]],
            line=chunk.line(spilled.kept[at]),
            reason=reason,
            detail=detail,
            raw=chunk.raw(spilled.kept[at]),
        )
        for at, (reason, detail) in verdict.reasons.items()
    ]
    ordered = sorted([*spilled.rejected, *late], key=_row_number)
    return encode_text("".join(map(json_line, ordered)))
