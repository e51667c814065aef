"""Readers: one generator of chunks a file format, none of which holds a whole file in memory."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TextIO

from sm_launch.data.chunks import ROWS_PER_CHUNK, BadRow, Chunk
from sm_launch.data.config import DataConfig
from sm_launch.data.json_array import elements
from sm_launch.data.sources import Source
from sm_launch.data.tabular import Record, TabularReader
from sm_launch.errors import UserInputError


def read(source: Source, config: DataConfig) -> Iterator[Chunk]:
    """Yield the rows of one file, in order.

    Raises:
        UserInputError: the file as a whole cannot be understood. A single bad row does not raise:
            it is in `Chunk.bad`.
    """
    try:
        if source.format == "parquet":
            yield from _read_parquet(source)
        elif source.format == "arrow":
            yield from _read_arrow(source)
        elif source.format == "text":
            yield from _read_text(source)
        elif source.format == "json" and _is_json_array(source):
            yield from _read_json_array(source)
        elif source.format in ("json", "jsonl"):
            yield from _read_json_lines(source)
        else:
            yield from _read_tabular(source, config)
    except UnicodeError as error:  # wide encodings cannot escape a single bad byte
        raise UserInputError(
            f"{source.location} is not in this encoding: {error}",
            field="data.encoding",
            value=source.encoding,
            fix="name the file's real encoding, or leave it empty",
        ) from error


def _open(source: Source) -> TextIO:
    # Undecodable bytes become lone surrogates, which the cleaner repairs or rejects by row.
    try:
        return source.path.open(encoding=source.encoding, errors="surrogateescape", newline="")
    except LookupError:
        raise UserInputError(
            "no such encoding",
            field="data.encoding",
            value=source.encoding,
            fix="give a Python codec name such as utf-8 or cp1252, or leave it empty",
        ) from None


def _read_tabular(source: Source, config: DataConfig) -> Iterator[Chunk]:
    csv.field_size_limit(16 * 1024 * 1024)
    with _open(source) as file:
        reader = TabularReader(file, source.delimiter, quoted=config.quoting == "auto")
        records = iter(reader)
        first = next(records, None)
        if first is None or first.cells is None:
            raise UserInputError(
                "the first row cannot be read",
                field=f"data.{source.split}",
                value=source.location,
                fix="check data.delimiter, data.encoding and data.format",
            )
        names = [cell.strip() for cell in first.cells]
        if not config.header:
            names = [str(index) for index in range(len(first.cells))]
        reader.width = len(names)
        chunk = Chunk(source.split, names)
        if not config.header:
            _add_record(chunk, first, 1)
        for number, record in enumerate(records, start=len(chunk) + 1):
            _add_record(chunk, record, number)
            if len(chunk) >= ROWS_PER_CHUNK:
                chunk.bytes_read = file.buffer.tell()
                yield chunk
                chunk = Chunk(source.split, names)
        chunk.bytes_read = source.path.stat().st_size
        yield chunk


def _add_record(chunk: Chunk, record: Record, number: int) -> None:
    if record.cells is None:
        chunk.bad.append(BadRow(number, record.line, record.problem, record.raw))
        return
    chunk.rows.append(record.cells)
    chunk.numbers.append(number)
    chunk.lines.append(record.line)


def _is_json_array(source: Source) -> bool:
    with _open(source) as file:
        return file.read(4096).lstrip("\ufeff \t\r\n").startswith("[")


def _read_json_array(source: Source) -> Iterator[Chunk]:
    with _open(source) as file:
        objects = _Objects(source.split)
        try:
            for number, value in enumerate(elements(file), start=1):
                objects.add(value, number, None)
                if len(objects) >= ROWS_PER_CHUNK:
                    yield objects.chunk(file.buffer.tell())
                    objects = _Objects(source.split)
        except UnicodeError:
            raise
        except ValueError as error:
            raise UserInputError(
                f"not valid JSON: {error}",
                field=f"data.{source.split}",
                value=source.location,
                fix="correct the file; a file with an object on each line needs format: jsonl",
            ) from error
        yield objects.chunk(source.path.stat().st_size)


def _read_json_lines(source: Source) -> Iterator[Chunk]:
    with _open(source) as file:
        objects = _Objects(source.split)
        number = 0
        for line, text in enumerate(file, start=1):
            if not text.strip():
                continue
            number += 1
            try:
                objects.add(json.loads(text), number, line)
            except ValueError as error:
                objects.bad.append(BadRow(number, line, f"not valid JSON: {error}", text.rstrip()))
            if len(objects) >= ROWS_PER_CHUNK:
                yield objects.chunk(file.buffer.tell())
                objects = _Objects(source.split)
        yield objects.chunk(source.path.stat().st_size)


class _Objects:
    """JSON objects on their way to a chunk: their keys may differ from row to row."""

    def __init__(self, split: str) -> None:
        self._split = split
        self._objects: list[tuple[dict[str, Any], int, int | None]] = []
        self.bad: list[BadRow] = []

    def __len__(self) -> int:
        return len(self._objects) + len(self.bad)

    def add(self, value: Any, number: int, line: int | None) -> None:
        if isinstance(value, dict):
            self._objects.append((value, number, line))
        else:
            detail = f"not a JSON object but {type(value).__name__}"
            self.bad.append(BadRow(number, line, detail, value))

    def chunk(self, bytes_read: int) -> Chunk:
        names = list(dict.fromkeys(key for value, _, _ in self._objects for key in value))
        return Chunk(
            self._split,
            names,
            rows=[[value.get(name) for name in names] for value, _, _ in self._objects],
            numbers=[number for _, number, _ in self._objects],
            lines=[line for _, _, line in self._objects if line is not None],
            bad=self.bad,
            bytes_read=bytes_read,
        )


def _read_parquet(source: Source) -> Iterator[Chunk]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    size = source.path.stat().st_size
    try:
        with pq.ParquetFile(source.path) as file:
            rows = max(file.metadata.num_rows, 1)
            batches = file.iter_batches(batch_size=ROWS_PER_CHUNK)
            yield from _columnar(source, batches, lambda number: size * number // rows)
    except (pa.ArrowException, OSError) as error:
        raise _damaged("a Parquet", source, error) from error


def _read_arrow(source: Source) -> Iterator[Chunk]:
    """An Arrow file as `Dataset.save_to_disk` writes them: a stream; or Arrow's own file format."""
    import pyarrow as pa

    labels = _class_labels(source)
    try:
        with pa.memory_map(str(source.path)) as mapped:
            batches = (
                batch.slice(start, ROWS_PER_CHUNK)
                for batch in _arrow_batches(mapped)
                for start in range(0, batch.num_rows, ROWS_PER_CHUNK)
            )
            yield from _columnar(source, batches, lambda _: mapped.tell(), labels)
            yield Chunk(source.split, [], bytes_read=source.path.stat().st_size)
    except (pa.ArrowException, OSError) as error:
        raise _damaged("an Arrow", source, error) from error


def _columnar(
    source: Source,
    batches: Iterable[Any],
    bytes_read: Callable[[int], int],
    labels: Mapping[str, list[str]] = MappingProxyType({}),
) -> Iterator[Chunk]:
    """A chunk for each record batch.

    Args:
        source: where they are from.
        batches: none larger than a chunk may be.
        bytes_read: from the number of rows so far to the bytes of the file that they took.
        labels: column to the names that its numbers stand for.
    """
    number = 0
    for batch in batches:
        names = batch.schema.names
        columns = [
            _named(column.to_pylist(), labels.get(name))
            for name, column in zip(names, batch.columns, strict=True)
        ]
        rows: list[Sequence[Any]] = list(zip(*columns, strict=True))
        numbers = list(range(number + 1, number + len(rows) + 1))
        number += len(rows)
        yield Chunk(source.split, names, rows, numbers, bytes_read=bytes_read(number))


def _damaged(kind: str, source: Source, error: Exception) -> UserInputError:
    return UserInputError(
        f"not {kind} file, or a damaged one: {error}",
        field=f"data.{source.split}",
        value=source.location,
        fix="check the file, or set data.format",
    )


def _arrow_batches(mapped: Any) -> Iterator[Any]:
    import pyarrow as pa

    try:
        stream = pa.ipc.open_stream(mapped)
    except pa.ArrowInvalid:
        mapped.seek(0)
        file = pa.ipc.open_file(mapped)
        yield from (file.get_batch(at) for at in range(file.num_record_batches))
        return
    yield from stream


def _class_labels(source: Source) -> dict[str, list[str]]:
    """Column to label names, where dataset_info.json beside the file knows them."""
    info = source.path.parent / "dataset_info.json"
    try:
        features = json.loads(info.read_text(encoding="utf-8")).get("features", {})
    except (OSError, ValueError, AttributeError):
        return {}
    return {
        name: feature["names"]
        for name, feature in features.items()
        if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
    }


def _named(values: list[Any], names: list[str] | None) -> list[Any]:
    """Ids as the names they stand for; -1 is how `datasets` writes a missing label."""
    if names is None:
        return values
    return [names[v] if isinstance(v, int) and 0 <= v < len(names) else None for v in values]


def _read_text(source: Source) -> Iterator[Chunk]:
    """One document a line; blank lines are none."""
    with _open(source) as file:
        chunk, number = Chunk(source.split, ["text"]), 0
        for line, text in enumerate(file, start=1):
            if not text.strip():
                continue
            number += 1
            chunk.rows.append([text.rstrip("\r\n")])
            chunk.numbers.append(number)
            chunk.lines.append(line)
            if len(chunk) >= ROWS_PER_CHUNK:
                chunk.bytes_read = file.buffer.tell()
                yield chunk
                chunk = Chunk(source.split, ["text"])
        chunk.bytes_read = source.path.stat().st_size
        yield chunk
