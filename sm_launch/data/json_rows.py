"""JSON as people give it: lines, one array, objects one after another, or rows under `data`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from sm_launch.data.chunks import ROWS_PER_CHUNK, BadRow, Chunk
from sm_launch.data.json_array import elements
from sm_launch.data.sources import SPLIT_NAMES, Source
from sm_launch.data.text_file import TextFile
from sm_launch.errors import UserInputError

_SAMPLE_CHARACTERS = 1 << 20
_WRAPPING = frozenset({"data", "version", "name", "description", "info", "license"})
"""Keys of an object that only holds the rows, in `data`, as SQuAD's and many APIs' files do."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twice!r} stands twice in an object")
    return members


def _constant(word: str) -> None:
    """NaN is what pandas writes for null; an infinite number is no value of JSON."""
    if word != "NaN":
        raise ValueError(f"{word} is no value of JSON")


DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant)


def decode(text: str) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: it is none, a key stands twice in an object, or it is nested too deep.
    """
    try:
        return DECODER.decode(text)
    except RecursionError:
        raise ValueError("nested too deep") from None


def read_json(source: Source) -> Iterator[Chunk]:
    """The rows of a JSON or JSON Lines file.

    Raises:
        UserInputError: it is one value, and not valid. A bad line does not raise: it is in
            `Chunk.bad`.
    """
    if _form(source) == "lines":
        yield from _chunks(source, _lines)
        return
    try:
        yield from _chunks(source, _values)
    except UnicodeError:
        raise
    except (ValueError, RecursionError) as error:
        raise UserInputError(
            f"not valid JSON: {error}",
            field=f"data.{source.split}",
            value=source.location,
            fix="correct the file: no comments, no comma before a closing bracket; rows are an "
            "array of objects, or an object on each line",
        ) from error


def _form(source: Source) -> str:
    """`lines` or `values` (an array, or objects that are longer than a line)."""
    with TextFile(source) as file:
        sample = file.read(_SAMPLE_CHARACTERS).lstrip("\ufeff \t\r\n")
    first, _, rest = sample.partition("\n")
    if sample.startswith("["):
        whole = _parsed(first)
        return "lines" if isinstance(whole, list) and rest.strip()[:1] == "[" else "values"
    if not sample.startswith("{") or isinstance(_parsed(first), dict):
        return "lines"
    second = next((line for line in rest.split("\n") if line.strip()), "")
    if isinstance(_parsed(second), dict) and first.rstrip().endswith("}"):
        return "lines"  # the first line is a bad row
    try:
        DECODER.raw_decode(sample)
    except (ValueError, RecursionError):
        return "values" if len(sample) == _SAMPLE_CHARACTERS and not rest else _by_brace(first)
    return "values"


def _by_brace(first: str) -> str:
    """A broken object: of a whole line, or of one that goes on below."""
    return "lines" if first.rstrip().endswith("}") else "values"


def _parsed(text: str) -> Any:
    try:
        return DECODER.decode(text.strip())
    except (ValueError, RecursionError):
        return None


def _lines(file: TextFile) -> Iterator[tuple[int | None, Any]]:
    for line, text in enumerate(file, start=1):
        bare = text.strip("\ufeff \t\r\n\0" if line == 1 else " \t\r\n")
        if not bare:
            continue
        try:
            yield line, decode(bare)
        except ValueError as error:
            yield line, _Bad(f"not valid JSON: {error}", text.rstrip("\r\n"))


def _values(file: TextFile) -> Iterator[tuple[int | None, Any]]:
    for value in elements(file, DECODER):
        yield None, value


class _Bad:
    def __init__(self, detail: str, raw: str) -> None:
        self.detail = detail
        self.raw = raw


def _chunks(source: Source, rows: Any) -> Iterator[Chunk]:
    with TextFile(source) as file:
        objects, number = _Objects(source.split, records=False), 0
        for line, value in rows(file):
            objects.unread |= _unread(value)
            for row in _unwrapped(value, source):
                number += 1
                if number == 1:
                    objects.records = _is_record(row)
                objects.add(row, number, line)
                if len(objects) >= ROWS_PER_CHUNK:
                    yield objects.chunk(file.bytes_read, file)
                    objects = _Objects(source.split, records=objects.records)
        yield objects.chunk(source.path.stat().st_size, file)


def _unwrapped(value: Any, source: Source) -> list[Any]:
    """The rows in an object that does nothing but hold them."""
    if isinstance(value, dict) and (splits := _splits(value)):
        return _of_split(splits, source)
    if isinstance(value, dict) and value.keys() <= _WRAPPING:
        rows = value.get("data")
        if isinstance(rows, list) and rows and all(isinstance(row, dict) for row in rows):
            return [flat for row in rows for flat in _squad(row)]
    return _squad(value) if isinstance(value, dict) and "paragraphs" in value else [value]


def _splits(value: dict[str, Any]) -> dict[str, list[Any]]:
    """Split to rows, of an object that holds lists of rows under the names of several splits."""
    if not all(isinstance(rows, list) for rows in value.values()):
        return {}
    splits = {SPLIT_NAMES[key]: rows for key, rows in value.items() if key in SPLIT_NAMES}
    rows = [row for rows in splits.values() for row in rows[:1]]
    return splits if len(splits) > 1 and all(isinstance(r, list | dict) for r in rows) else {}


def _unread(value: Any) -> dict[str, int]:
    """Rows that such an object holds under other names."""
    if not isinstance(value, dict) or not _splits(value):
        return {}
    return {name: len(rows) for name, rows in value.items() if name not in SPLIT_NAMES}


def _of_split(splits: dict[str, list[Any]], source: Source) -> list[Any]:
    if source.split in splits:
        return splits[source.split]
    raise UserInputError(
        f"this file holds splits that somebody made: {', '.join(splits)}",
        field=f"data.{source.split}",
        value=source.location,
        fix="name it for each of them, and each reads its own rows: "
        + ", ".join(f"data.{split}: {source.location}" for split in splits),
    )


def _squad(article: dict[str, Any]) -> list[dict[str, Any]]:
    """The questions of an article of SQuAD's files, each with its paragraph; else the row."""
    paragraphs = article.get("paragraphs")
    if not isinstance(paragraphs, list) or not all(isinstance(p, dict) for p in paragraphs):
        return [article]
    return [
        {"context": paragraph.get("context"), **question}
        for paragraph in paragraphs
        for question in paragraph.get("qas", ())
        if isinstance(question, dict)
    ]


def _is_record(value: Any) -> bool:
    """Whether a row is a list of its cells."""
    return isinstance(value, list) and not any(isinstance(each, list | dict) for each in value)


class _Objects:
    """JSON objects on their way to a chunk: their keys may differ from row to row."""

    def __init__(self, split: str, *, records: bool) -> None:
        self._split = split
        self.records = records
        """Whether rows are lists of cells, which go by their places."""
        self._objects: list[tuple[dict[str, Any], int, int | None]] = []
        self._bad: list[BadRow] = []
        self.unread: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._objects) + len(self._bad)

    def add(self, value: Any, number: int, line: int | None) -> None:
        if isinstance(value, dict):
            self._objects.append((value, number, line))
        elif self.records and isinstance(value, list):
            self._objects.append(({str(at): v for at, v in enumerate(value)}, number, line))
        elif isinstance(value, _Bad):
            self._bad.append(BadRow(number, line, value.detail, value.raw))
        else:
            detail = f"not a JSON object but {type(value).__name__}"
            self._bad.append(BadRow(number, line, detail, value))

    def chunk(self, bytes_read: int, file: TextFile) -> Chunk:
        names = list(dict.fromkeys(key for value, _, _ in self._objects for key in value))
        mended, file.mended = file.mended, 0
        return Chunk(
            self._split,
            names,
            rows=[[value.get(name) for name in names] for value, _, _ in self._objects],
            numbers=[number for _, number, _ in self._objects],
            lines=[line for _, _, line in self._objects if line is not None],
            bad=self._bad,
            bytes_read=bytes_read,
            mended=mended,
            unread=self.unread,
        )
