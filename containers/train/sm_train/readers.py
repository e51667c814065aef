"""Rows of a channel's files, whatever their format; a row that cannot be parsed is kept as bad."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

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
_NOT_DATA = frozenset({"manifest.json", "rejected.jsonl", "dataset_info.json", "state.json"})


@dataclass(frozen=True)
class RawRow:
    """One row as found: `value` is None when it could not be parsed, and `reason` says why."""

    file: str
    number: int  # 1-based line, or position in the file
    value: dict[str, Any] | None
    reason: str = ""
    raw: str = ""


def channel_files(channel: Path) -> list[Path]:
    """Data files of a channel in a fixed order. Raises UserError when there are none."""
    files = sorted(
        path
        for path in channel.rglob("*")
        if path.is_file() and not path.name.startswith((".", "_")) and path.name not in _NOT_DATA
    )
    known = [path for path in files if _reader(path) is not None]
    if known:
        return known
    found = ", ".join(path.name for path in files[:5]) or "nothing"
    raise UserError(
        f"has no data file; found {found}",
        field=f"channel {channel.name}",
        fix=f"give it files of one of these kinds: {', '.join(_READERS)} (or .gz of them)",
    )


def read_channel(channel: Path) -> Iterator[RawRow]:
    """Every row of every file. Raises UserError for a file that cannot be read at all."""
    for path in channel_files(channel):
        reader = _reader(path)
        assert reader is not None
        name = str(path.relative_to(channel))
        try:
            yield from reader(path, name)
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


def _reader(path: Path) -> Callable[[Path, str], Iterator[RawRow]] | None:
    return _READERS.get(_plain_suffix(path).lower())


def _text(path: Path) -> IO[str]:
    """The file as text; a byte order mark is not data, and CSV wants its own newlines."""
    if path.suffix == ".gz":
        return io.TextIOWrapper(gzip.open(path), encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _json_lines(path: Path, name: str) -> Iterator[RawRow]:
    with _text(path) as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield _parsed(name, number, line)


def _parsed(name: str, number: int, line: str) -> RawRow:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        return RawRow(name, number, None, f"not valid JSON: {error}", line.rstrip("\n"))
    return _as_row(name, number, value)


def _as_row(name: str, number: int, value: Any) -> RawRow:
    if isinstance(value, dict):
        return RawRow(name, number, value)
    return RawRow(name, number, None, "not a JSON object", json.dumps(value, ensure_ascii=False))


def _json(path: Path, name: str) -> Iterator[RawRow]:
    """A list of rows, `{"data": [rows]}` (SQuAD's and datasets' form), or JSON lines."""
    with _text(path) as file:
        text = file.read()
    try:
        value = json.loads(text)
    except ValueError:
        yield from _json_lines(path, name)
        return
    if isinstance(value, dict):
        value = value["data"] if isinstance(value.get("data"), list) else [value]
    if not isinstance(value, list):
        raise UserError("must hold a list of rows", field=f"file {name}")
    for number, row in enumerate(value, 1):
        yield _as_row(name, number, row)


def _separated(path: Path, name: str, delimiter: str) -> Iterator[RawRow]:
    csv.field_size_limit(_LONGEST_FIELD)
    with _text(path) as file:
        reader = csv.DictReader(file, delimiter=delimiter, restkey="", strict=True)
        for row in reader:
            number = reader.line_num
            if "" in row:
                raw = json.dumps(row, ensure_ascii=False)
                yield RawRow(name, number, None, "more fields than the header has", raw)
                continue
            yield RawRow(name, number, row)


def _csv(path: Path, name: str) -> Iterator[RawRow]:
    return _separated(path, name, ",")


def _tsv(path: Path, name: str) -> Iterator[RawRow]:
    return _separated(path, name, "\t")


def _parquet(path: Path, name: str) -> Iterator[RawRow]:
    import pyarrow.parquet as pq

    number = 0
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches():
            for row in batch.to_pylist():
                number += 1
                yield RawRow(name, number, row)


def _plain_text(path: Path, name: str) -> Iterator[RawRow]:
    """Documents for language modelling, one a line."""
    with _text(path) as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield RawRow(name, number, {"text": line.rstrip("\r\n")})


_READERS: dict[str, Callable[[Path, str], Iterator[RawRow]]] = {
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json,
    ".csv": _csv,
    ".tsv": _tsv,
    ".parquet": _parquet,
    ".txt": _plain_text,
}
