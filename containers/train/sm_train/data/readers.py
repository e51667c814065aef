"""Rows of a channel's files, whatever their format; a row that cannot be parsed is kept as bad."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import IO, Any

from sm_train.data import class_ids
from sm_train.data.cells import plain_row, typed_rows
from sm_train.errors import UserError, shorten

# How a file's bytes can disappoint its reader; text in another encoding is a ValueError, a
# truncated .gz an EOFError, and Parquet that pyarrow cannot read a NotImplementedError.
_BROKEN = (
    OSError,
    ValueError,
    EOFError,
    zlib.error,
    RecursionError,
    NotImplementedError,
    csv.Error,
)
_LONGEST_FIELD = 2**31 - 1  # csv stops at 128 KiB, less than a long conversation

# Files that `sm-launch data prepare` leaves beside the data.
NOT_DATA = frozenset({"manifest.json", "rejected.jsonl", "dataset_info.json", "state.json"})


@dataclass(frozen=True)
class RawRow:
    """One row as found: `value` is None when it could not be parsed, and `reason` says why."""

    file: str
    number: int  # 1-based line, or position in the file
    value: dict[str, Any] | None
    reason: str = ""
    raw: str = ""


Reader = Callable[[Path, str, Callable[[str], bool]], Iterator[RawRow]]


def _present(channel: Path) -> list[Path]:
    """The files that may hold data, in a fixed order; hidden ones and our own notes do not."""
    return sorted(
        path
        for path in channel.rglob("*")
        if path.is_file() and not path.name.startswith((".", "_")) and path.name not in NOT_DATA
    )


def unread_files(channel: Path) -> list[str]:
    """Names of a channel's files that are of no kind that can be read."""
    return [str(p.relative_to(channel)) for p in _present(channel) if _reader(p) is None]


def whole_files(files: Iterable[Path]) -> list[Path]:
    """Those that are read as a whole: CSV tells the kind of a cell by its column, JSON is one."""
    return [path for path in files if _plain_suffix(path).lower() in WHOLE]


def channel_files(channel: Path) -> list[Path]:
    """Data files of a channel in a fixed order. Raises UserError when there are none."""
    files = _present(channel)
    known = [path for path in files if _reader(path) is not None]
    if known:
        return known
    names = ", ".join(path.name for path in files[:5]) or "nothing"
    raise UserError(
        f"has no data file; found {names}",
        field=f"channel {channel.name}",
        fix=f"give it files of one of these kinds: {', '.join(READERS)} (or .gz of them)",
    )


def read_files(
    channel: Path, files: Iterable[Path], is_text: Callable[[str], bool]
) -> Iterator[RawRow]:
    """Every row of a channel's files. Raises UserError for a file that cannot be read at all.

    `is_text`: whether a column is text whatever it looks like; CSV itself does not say.
    """
    for path in files:
        reader = _reader(path)
        assert reader is not None
        name = str(path.relative_to(channel))
        try:
            yield from reader(path, name, is_text)
        except UserError:
            raise
        except _BROKEN as error:
            raise UserError(
                f"cannot be read: {shorten(str(error))}",
                field=f"channel {channel.name}, file {name}",
                fix="write it as UTF-8 in the format that its name says",
            ) from error


def _plain_suffix(path: Path) -> str:
    suffixes = path.suffixes
    return suffixes[-2] if suffixes[-1:] == [".gz"] and len(suffixes) > 1 else path.suffix


def _reader(path: Path) -> Reader | None:
    return READERS.get(_plain_suffix(path).lower())


def _text(path: Path) -> IO[str]:
    """The file as text; a byte order mark is not data, and CSV wants its own newlines."""
    if path.suffix == ".gz":
        return io.TextIOWrapper(gzip.open(path), encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _json_lines(path: Path, name: str, _: Callable[[str], bool]) -> Iterator[RawRow]:
    with _text(path) as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield _parsed(name, number, line)


def _constant(name: str) -> float | None:
    """NaN is what pandas writes for a missing number."""
    return None if name == "NaN" else float(name)


def _parsed(name: str, number: int, line: str) -> RawRow:
    try:
        value = json.loads(line, parse_constant=_constant)
    except (ValueError, RecursionError) as error:
        return RawRow(name, number, None, f"not valid JSON: {error}", line.rstrip("\n"))
    return _as_row(name, number, value)


def _as_row(name: str, number: int, value: Any) -> RawRow:
    if isinstance(value, dict):
        return RawRow(name, number, value)
    return RawRow(name, number, None, "not a JSON object", json.dumps(value, ensure_ascii=False))


def _json(path: Path, name: str, is_text: Callable[[str], bool]) -> Iterator[RawRow]:
    """A list of rows, `{"data": [rows]}` (SQuAD's and datasets' form), or JSON lines."""
    with _text(path) as file:
        text = file.read()
    try:
        value = json.loads(text, parse_constant=_constant)
    except ValueError:
        yield from _json_lines(path, name, is_text)
        return
    if isinstance(value, dict):
        value = value["data"] if isinstance(value.get("data"), list) else [value]
    if not isinstance(value, list):
        raise UserError("must hold a list of rows", field=f"file {name}")
    for number, row in enumerate(value, 1):
        yield _as_row(name, number, row)


def _separated(
    path: Path, name: str, delimiter: str, is_text: Callable[[str], bool]
) -> Iterator[RawRow]:
    """Rows of text cells with the kinds of their columns; the whole file is needed to tell them."""
    csv.field_size_limit(_LONGEST_FIELD)
    rows: list[dict[str, str | None]] = []
    numbers: list[int] = []
    with _text(path) as file:
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        header = _header(next(reader, []), name)
        for cells in reader:
            if not cells:
                continue
            if len(cells) > len(header):
                raw = json.dumps(cells, ensure_ascii=False)
                yield RawRow(name, reader.line_num, None, "more fields than the header has", raw)
                continue
            rows.append(dict(zip_longest(header, cells)))
            numbers.append(reader.line_num)
    for number, row in zip(numbers, typed_rows(rows, is_text), strict=True):
        yield RawRow(name, number, row)


def _header(names: list[str], file: str) -> list[str]:
    """The columns' names. Raises UserError where one stands twice: a cell would be lost."""
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise UserError(
            f"has several columns of the same name: {', '.join(map(repr, twice))}",
            field=f"file {file}",
            fix="give each column a name of its own",
        )
    return names


def _csv(path: Path, name: str, is_text: Callable[[str], bool]) -> Iterator[RawRow]:
    return _separated(path, name, ",", is_text)


def _tsv(path: Path, name: str, is_text: Callable[[str], bool]) -> Iterator[RawRow]:
    return _separated(path, name, "\t", is_text)


def _parquet(path: Path, name: str, _: Callable[[str], bool]) -> Iterator[RawRow]:
    import pyarrow.parquet as pq

    number = 0
    with pq.ParquetFile(path) as file:
        ids = class_ids.readers(class_ids.features_in(file.schema_arrow.metadata))
        for batch in file.iter_batches():
            for row in batch.to_pylist():
                number += 1
                classes = {
                    column: read(row[column]) for column, read in ids.items() if column in row
                }
                yield RawRow(name, number, plain_row(row | classes))


def _plain_text(path: Path, name: str, _: Callable[[str], bool]) -> Iterator[RawRow]:
    """Documents for language modelling, one a line."""
    with _text(path) as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield RawRow(name, number, {"text": line.rstrip("\r\n")})


READERS: dict[str, Reader] = {
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json,
    ".csv": _csv,
    ".tsv": _tsv,
    ".parquet": _parquet,
    ".txt": _plain_text,
}

WHOLE = tuple(kind for kind, reader in READERS.items() if reader in (_csv, _tsv, _json))
