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
from sm_launch.data.labels import Label, names_in
from sm_launch.data.missing import Taken
from sm_launch.data.rejected import Rejected, rejection
from sm_launch.data.rows import Example, RowCleaner
from sm_launch.data.write import arrow_schema, encode_rows, encode_text, json_line
from sm_launch.job.data import OutputFormat

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
    labels: list[Label | None]
    characters: NDArray[np.int32]
    groups: NDArray[np.uint64]
    times: NDArray[np.float64]
    signatures: NDArray[np.uint16]
    """A row each; without columns where near duplicates stay."""
    reasons: Counter[str] = field(default_factory=Counter)
    examples: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The first rejected row of each reason."""
    taken: Taken = field(default_factory=Counter)
    """Words that were taken for missing values."""
    doubtful: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Label that may mean missing to its first row, as a rejection."""
    names: list[str] = field(default_factory=list)
    schema: Any = None
    """pyarrow's, of the cleaned rows, where the channels are Parquet."""
    mended: int = 0
    unread: dict[str, int] = field(default_factory=dict)
    """Parts of the file that are of no split, with their rows."""
    forms: Counter[str] = field(default_factory=Counter)
    """Rows whose turns are texts, and rows with messages among them, where a task takes both."""


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
    kept, examples, taken = [], [], Taken()
    for at, cells in enumerate(chunk.rows):
        try:
            examples.append(cleaner.clean(cells, places, taken))
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
    summary = _summary(job, examples, rejected)
    summary.taken = taken
    summary.forms = Counter(
        form for example in examples if (form := cleaner.form(example.values)) is not None
    )
    if cleaner.output_format == "parquet" and examples:
        summary.schema = arrow_schema(spilled.values, cleaner.output_names)
    doubtful = {
        name: label
        for label in dict.fromkeys(summary.labels)
        for name in names_in(label)
        if name and cleaner.is_doubtful(name)
    }
    for name, label in doubtful.items():
        at = kept[summary.labels.index(label)]
        summary.doubtful[name] = reject(
            row=chunk.numbers[at],
            line=chunk.line(at),
            reason="missing_label",
            detail=f"the label is {name!r}",
            raw=chunk.raw(at),
        )
    return summary


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
        names=job.chunk.names,
        mended=job.chunk.mended,
        unread=job.chunk.unread,
    )


def _signatures(examples: list[Example]) -> NDArray[np.uint16]:
    import numpy as np

    signatures = [example.signature for example in examples if example.signature is not None]
    return np.stack(signatures) if signatures else np.zeros((len(examples), 0), dtype=np.uint16)


@dataclass
class Verdict:
    """Where the kept rows of one spilled chunk go."""

    path: Path
    splits: Sequence[int]
    """Index into SPLITS of each kept row; negative: rejected."""
    reasons: dict[int, tuple[str, str]]
    """Place among the kept rows to reason and detail of those rejected late."""
    spelling: dict[str, str] = field(default_factory=dict)
    """Label to the spelling that it has in the channels, where that is another."""


@dataclass
class Encoded:
    """The bytes that one chunk adds to the output files."""

    channels: dict[int, bytes]
    rejected: bytes


def encode_chunk(
    verdict: Verdict, *, names: list[str], output_format: OutputFormat, schema: Any = None
) -> Encoded:
    """Second pass over one chunk."""
    # Written by `clean_chunk` into a directory that only this user can write.
    spilled: Spilled = pickle.loads(verdict.path.read_bytes())  # noqa: S301
    verdict.path.unlink()
    by_split: dict[int, list[tuple[Any, ...]]] = {}
    for values, split in zip(spilled.values, verdict.splits, strict=True):
        if split >= 0:
            by_split.setdefault(split, []).append(values)
    if verdict.spelling:
        at = names.index("label")
        by_split = {k: _respelt(rows, at, verdict.spelling) for k, rows in by_split.items()}
    channels = {
        split: encode_rows(rows, names, output_format, schema) for split, rows in by_split.items()
    }
    return Encoded(channels, _encode_rejected(spilled, verdict))


def _respelt(
    rows: list[tuple[Any, ...]], at: int, spelling: dict[str, str]
) -> list[tuple[Any, ...]]:
    def spelt(label: str | list[str]) -> str | list[str]:
        if isinstance(label, list):
            return list(dict.fromkeys(spelling.get(name, name) for name in label))
        return spelling.get(label, label)

    return [(*row[:at], spelt(row[at]), *row[at + 1 :]) for row in rows]


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
