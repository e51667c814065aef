"""Some rows of a channel's files, read as the training container reads them."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice, zip_longest
from pathlib import Path
from typing import IO, Any

from sm_launch.errors import UserInputError
from sm_launch.job.hyperparameters import row_rules

_ROWS = 100
"""Of each file. What is refused holds for every row of a channel, so that some of them tell."""
_FILES = 20
_LARGEST_JSON = 1 << 26
"""Bytes of a file that is one JSON value, which has to be read as a whole."""
_LONGEST_CELL = 2**31 - 1
_BROKEN = (OSError, ValueError, EOFError, csv.Error, RecursionError, NotImplementedError)


def kind_of(path: Path) -> str:
    """The ending that says what a file is, in front of .gz."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    return suffixes[-2] if suffixes[-1:] == [".gz"] and len(suffixes) > 1 else path.suffix.lower()


def data_files(channel: str, place: Path) -> list[Path]:
    """The files of a channel that the container reads.

    Raises:
        UserInputError: there is none of them.
    """
    rules = row_rules()
    present = sorted(p for p in place.rglob("*") if p.is_file()) if place.is_dir() else [place]
    files = [
        path
        for path in present
        if not path.name.startswith((".", "_"))
        and path.name not in rules["not_data"]
        and kind_of(path) in rules["kinds"]
    ]
    if files:
        return files
    names = ", ".join(path.name for path in present[:5]) or "nothing"
    raise UserInputError(
        f"has no data file that training reads; there is {names}",
        field=f"training.channels.{channel}",
        value=str(place),
        fix=f"give it files of one of these kinds: {', '.join(rules['kinds'])} (or .gz of them)",
    )


def first_rows(channel: str, files: list[Path]) -> list[dict[str, Any]]:
    """Rows of each file; none where not all could be looked into: another may have what is missing.

    Raises:
        UserInputError: a table with two columns of one name.
    """
    rows: list[dict[str, Any]] = []
    if len(files) > _FILES:
        return []
    for path in files:
        try:
            rows += islice(_rows(path, channel), _ROWS)
        except _BROKEN:
            return []  # the container says what is wrong with the file
    return rows


def _rows(path: Path, channel: str) -> Iterator[dict[str, Any]]:
    """The rows of a file that can be read, as the container reads them."""
    kind = kind_of(path)
    if kind == ".parquet":
        yield from _parquet_rows(path)
        return
    with _text(path) as file:
        if kind in (".csv", ".tsv"):
            yield from _table_rows(file, "," if kind == ".csv" else "\t", path, channel)
        elif kind == ".json":
            yield from _json_rows(file, path)
        elif kind == ".txt":
            yield from ({"text": line} for line in file if line.strip())
        else:
            yield from _line_rows(file)


def _text(path: Path) -> IO[str]:
    if path.suffix.lower() == ".gz":
        return io.TextIOWrapper(gzip.open(path), encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=_ROWS):
            yield from batch.to_pylist()


def _table_rows(
    file: IO[str], delimiter: str, path: Path, channel: str
) -> Iterator[dict[str, Any]]:
    csv.field_size_limit(_LONGEST_CELL)
    reader = csv.reader(file, delimiter=delimiter, strict=True)
    header = next(reader, [])
    twice = sorted(name for name, count in Counter(header).items() if count > 1)
    if twice:
        raise UserInputError(
            f"has several columns of the same name: {', '.join(map(repr, twice))}",
            field=f"training.channels.{channel}",
            value=str(path),
            fix="give each column a name of its own",
        )
    for cells in reader:
        if cells and len(cells) <= len(header):
            yield dict(zip_longest(header, cells))


def _line_rows(file: Iterable[str]) -> Iterator[dict[str, Any]]:
    for line in file:
        try:
            value = json.loads(line) if line.strip() else None
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            yield value


def _json_rows(file: IO[str], path: Path) -> Iterator[dict[str, Any]]:
    """A list of rows, an object with one, or lines.

    Raises ValueError for a file too large to look into.
    """
    if path.stat().st_size > _LARGEST_JSON or path.suffix == ".gz":
        raise ValueError("too large")
    text = file.read()
    try:
        value = json.loads(text)
    except ValueError:
        yield from _line_rows(text.splitlines())
        return
    if isinstance(value, dict):
        value = value["data"] if isinstance(value.get("data"), list) else [value]
    yield from (row for row in value if isinstance(row, dict))
