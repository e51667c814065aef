"""What a raw file holds, before anybody decides what its columns mean."""

from __future__ import annotations

import tempfile
from collections import Counter
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from sm_launch.data.chunks import is_null
from sm_launch.data.pipeline import fetch_by_default
from sm_launch.data.read import read
from sm_launch.data.sources import Fetch, Source, locate
from sm_launch.job.data import DataConfig
from sm_launch.progress import StartProgress
from sm_launch.progress import progress as terminal_progress

_COUNTED_VALUES = 1000
"""Different values counted a column; a column with more holds text, not labels."""
_COUNTED_CHARACTERS = 100
_SHOWN_VALUES = 5
_SHOWN_CHARACTERS = 40


@dataclass
class ColumnReport:
    """One column of one file."""

    name: str
    missing: int = 0
    kinds: dict[str, int] = field(default_factory=dict)
    """Type name to number of values; everything in a CSV is `str`."""
    longest: int = 0
    """Characters."""
    mean_characters: float = 0.0
    values: dict[str, int] | None = field(default_factory=dict)
    """The most frequent values; None: too many different ones to count."""
    example: str = ""


@dataclass
class FileReport:
    """One file."""

    split: str
    location: str
    format: str
    encoding: str
    delimiter: str | None
    rows: int = 0
    malformed: int = 0
    columns: list[ColumnReport] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def render(self) -> str:
        """For a terminal."""
        delimiter = f", delimiter {self.delimiter!r}" if self.delimiter else ""
        lines = [
            f"{self.location}: {self.format}, {self.encoding}{delimiter}, "
            f"{self.rows} rows, {self.malformed} malformed"
        ]
        width = max((len(_cut(column.name)) for column in self.columns), default=0)
        for column in self.columns:
            if column.values is None:
                what = f"e.g. {column.example!r}"
            else:
                what = ", ".join(f"{value!r} {n}" for value, n in column.values.items())
            lines.append(
                f"  {_cut(column.name):<{width}}  {'/'.join(column.kinds) or 'empty'}, "
                f"{column.missing} missing, {column.mean_characters:.0f} characters on average, "
                f"at most {column.longest}: {what}"
            )
        return "\n".join(lines)


def inspect(
    config: DataConfig,
    *,
    progress: StartProgress = terminal_progress,
    base_directory: Path | None = None,
    fetch: Fetch | None = None,
) -> list[FileReport]:
    """Read every file that `config` names and describe its columns; writes nothing.

    Args:
        config: says where the files are and how to read them; `columns` do not matter.
        progress: shows how far it is.
        base_directory: what relative paths are relative to; default: here.
        fetch: copies an s3:// or hf:// file here; default: as its library is configured.

    Raises:
        UserInputError: a file cannot be read.
    """
    with ExitStack() as stack:
        fetch = fetch or partial(fetch_by_default, stack)
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="sm-launch-data-"))
        base = base_directory or Path.cwd()
        sources = locate(config, base=base, fetch=fetch, scratch=Path(scratch))
        size = sum(source.path.stat().st_size for source in sources)
        bar = stack.enter_context(progress("Inspecting data", size))
        reports = []
        for source in sources:
            reports.append(_inspect_file(source, config))
            bar.advance(source.path.stat().st_size)
    return reports


def _inspect_file(source: Source, config: DataConfig) -> FileReport:
    tabular = source.format in ("csv", "tsv")
    report = FileReport(
        source.split,
        source.location,
        source.format,
        source.encoding,
        source.delimiter if tabular else None,
    )
    columns: dict[str, _Column] = {}
    missing = frozenset(config.missing.values)
    for chunk in read(source, config):
        report.rows += len(chunk)
        report.malformed += len(chunk.bad)
        for at, name in enumerate(chunk.names):
            column = columns.setdefault(name, _Column(missing))
            for cells in chunk.rows:
                column.add(cells[at])
    readable = report.rows - report.malformed
    report.columns = [column.report(name, readable) for name, column in columns.items()]
    return report


class _Column:
    """Counts of one column, in bounded memory."""

    def __init__(self, missing: frozenset[str]) -> None:
        self._missing = missing
        self._kinds: Counter[str] = Counter()
        self._values: Counter[str] | None = Counter()
        self._characters = self._longest = 0
        self._example = ""

    def add(self, value: Any) -> None:
        """Count one cell."""
        text = "" if is_null(value) else str(value)
        if not text or text.strip().casefold() in self._missing:
            return
        self._kinds[type(value).__name__] += 1
        self._characters += len(text)
        self._longest = max(self._longest, len(text))
        self._example = self._example or _cut(text)
        if self._values is not None:
            self._values[text[:_COUNTED_CHARACTERS]] += 1
            if len(self._values) > _COUNTED_VALUES:
                self._values = None

    def report(self, name: str, rows: int) -> ColumnReport:
        """The counts, over `rows` readable rows of the file."""
        present = self._kinds.total()
        # Hardly any value twice: an identifier or a text, of which counts say nothing.
        counted = (
            self._values if self._values and len(self._values) <= max(10, present / 2) else None
        )
        return ColumnReport(
            name=_printable(name),
            missing=rows - present,
            kinds=dict(self._kinds.most_common()),
            longest=self._longest,
            mean_characters=self._characters / present if present else 0.0,
            values=counted
            and {_cut(text): count for text, count in counted.most_common(_SHOWN_VALUES)},
            example=self._example,
        )


def _printable(text: str) -> str:
    """Without the lone surrogates that undecodable bytes become: no terminal can print them."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _cut(text: str) -> str:
    short = text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"
    return _printable(short)
