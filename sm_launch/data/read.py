"""Readers: one generator of chunks a file format, none of which holds a whole file in memory."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Sequence

from sm_launch.data.chunks import ROWS_PER_CHUNK, BadRow, Chunk, short_list
from sm_launch.data.columnar import read_arrow, read_parquet
from sm_launch.data.conll import read_conll
from sm_launch.data.json_rows import read_json
from sm_launch.data.sources import Source
from sm_launch.data.tabular import Record, TabularReader
from sm_launch.data.text_file import TextFile
from sm_launch.errors import UserInputError
from sm_launch.job.data import DataConfig

_LARGEST_CELL = 16 * 1024 * 1024


def read(source: Source, config: DataConfig) -> Iterator[Chunk]:
    """Yield the rows of one file, in order.

    Raises:
        UserInputError: the file as a whole cannot be understood. A single bad row does not raise:
            it is in `Chunk.bad`.
    """
    checked: list[str] | None = None
    for chunk in _chunks(source, config):
        if chunk.names != checked:
            _check_names(chunk.names, source)
            checked = chunk.names
        yield chunk


def _chunks(source: Source, config: DataConfig) -> Iterator[Chunk]:
    try:
        if source.format == "parquet":
            yield from read_parquet(source, config)
        elif source.format == "arrow":
            yield from read_arrow(source, config)
        elif source.format == "conll":
            yield from read_conll(source, config.delimiter)
        elif source.format == "text":
            yield from _read_text(source)
        elif source.format in ("json", "jsonl"):
            yield from read_json(source)
        else:
            yield from _read_tabular(source, config)
    except UnicodeError as error:  # wide encodings cannot escape a single bad byte
        raise UserInputError(
            f"{source.location} is not in this encoding: {error}",
            field="data.encoding",
            value=source.encoding,
            fix="name the file's real encoding, or leave it empty",
        ) from error


def _check_names(names: Sequence[str], source: Source) -> None:
    """Two columns of one name: nobody can tell which of them is meant."""
    twice = [name for name, count in Counter(names).items() if count > 1 and name]
    if twice:
        raise UserInputError(
            f"{len(twice)} column name(s) stand twice or more: {short_list(twice)}",
            field=f"data.{source.split}",
            value=source.location,
            fix="rename the columns in the file",
        )


def _read_tabular(source: Source, config: DataConfig) -> Iterator[Chunk]:
    csv.field_size_limit(_LARGEST_CELL)
    with TextFile(source, csv=True) as file:
        for _ in range(source.skip):
            next(file)
        reader = TabularReader(
            file, source.delimiter, quoted=config.quoting == "auto", before=source.skip
        )
        records = iter(reader)
        first = next(records, None)
        if first is None or first.cells is None:
            raise UserInputError(
                "the first row cannot be read",
                field=f"data.{source.split}",
                value=source.location,
                fix="check data.delimiter, data.encoding and data.format",
            )
        names = _header(first.cells) if config.header else _numbered(first.cells)
        reader.width = len(names)
        chunk = Chunk(source.split, names)
        if not config.header:
            _add_record(chunk, first, 1)
        for number, record in enumerate(records, start=len(chunk) + 1):
            _add_record(chunk, record, number)
            if record.cells == names and len(names) > 1:  # tables that were joined as files
                _set_aside_last(chunk, "the header stands here again")
            if len(chunk) >= ROWS_PER_CHUNK:
                yield file.told(chunk, file.bytes_read)
                chunk = Chunk(source.split, names)
        yield file.told(chunk, source.path.stat().st_size)


def _set_aside_last(chunk: Chunk, problem: str) -> None:
    cells, number, line = chunk.rows.pop(), chunk.numbers.pop(), chunk.lines.pop()
    chunk.bad.append(BadRow(number, line, problem, list(cells)))


def _header(cells: Sequence[str]) -> list[str]:
    """Column names; those without one at the end come from a delimiter behind each row."""
    names = [cell.strip("\ufeff\u200b\0 \t\r\n") for cell in cells]
    while len(names) > 1 and not names[-1]:
        names.pop()
    return names


def _numbered(cells: Sequence[str]) -> list[str]:
    return [str(index) for index in range(len(cells))]


def _add_record(chunk: Chunk, record: Record, number: int) -> None:
    if record.cells is None:
        chunk.bad.append(BadRow(number, record.line, record.problem, record.raw))
        return
    chunk.rows.append(record.cells)
    chunk.numbers.append(number)
    chunk.lines.append(record.line)


def _read_text(source: Source) -> Iterator[Chunk]:
    """One document a line; blank lines are none."""
    with TextFile(source) as file:
        chunk, number = Chunk(source.split, ["text"]), 0
        for line, text in enumerate(file, start=1):
            if not text.strip():
                continue
            number += 1
            chunk.rows.append([text.rstrip("\r\n")])
            chunk.numbers.append(number)
            chunk.lines.append(line)
            if len(chunk) >= ROWS_PER_CHUNK:
                yield file.told(chunk, file.bytes_read)
                chunk = Chunk(source.split, ["text"])
        yield file.told(chunk, source.path.stat().st_size)
