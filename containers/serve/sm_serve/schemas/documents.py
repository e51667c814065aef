"""Reading bodies: text, JSON, JSON Lines and CSV, with bounds and messages that say where."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass, field
from typing import Any

from sm_serve.errors import BadRequest, UnsupportedMediaType
from sm_serve.schemas import media
from sm_serve.schemas.media import MediaType

CSV_HEADERS = {"text", "inputs", "text_pair", "question", "context"}
"""Columns of a CSV body, by the names that inputs have."""
READABLE = (media.JSON, media.JSON_LINES, media.CSV, media.TEXT)
LINES_AN_ITEM = 4
"""Lines of CSV texts, and blank ones, that are looked at for each item that may come."""
MAX_DEPTH = 64
"""Deepest nesting of a JSON body; no wire format needs ten levels."""


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


MAX_VALUES = 1_000_000
"""Most values of a body, counting those inside others; a million objects take 200 MB."""
MAX_KEYS = 10_000
"""Most keys of one object, which take longer than other values."""


@dataclass(frozen=True, slots=True)
class Document:
    """What a body holds: a JSON value, a text, or the list of its lines' or rows' values.

    `items` is how many texts, messages, prompts or documents it asks about. `lines` are the numbers
    of the lines or rows, from 1 with the header and blank ones counted, and `faults` message and
    code of those that cannot be read. `unpacked` are the bytes of a body that came compressed.
    """

    value: Any
    items: int = 1
    faults: dict[int, tuple[str, str]] = field(default_factory=dict)
    lines: list[int] = field(default_factory=list)
    unpacked: int = 0


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def decode_text(body: bytes, media: MediaType) -> str:
    """The body as text; BadRequest names the charset and the offset of a bad byte."""
    try:
        text = body.decode(media.charset)
    except UnicodeError as error:
        place = f" at byte {error.start}" if isinstance(error, UnicodeDecodeError) else ""
        raise BadRequest(
            f"the body is not valid {media.charset}{place}: encode it so, or name its charset in"
            " Content-Type"
        ) from error
    return text.removeprefix("\ufeff")


def parse_json(text: str, where: str = "the body") -> Any:
    """A JSON value; BadRequest names the line and column, or the bound that it breaks."""
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise BadRequest(
            f"{where} is not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}",
            code="invalid_json",
        ) from error
    except RecursionError as error:
        raise BadRequest(f"{where} is nested too deeply", code="invalid_json") from error
    except ValueError as error:
        raise BadRequest(f"{where} is not valid JSON: {error}", code="invalid_json") from error
    # Upper bounds first, as they cost next to nothing.
    if text.count("[") + text.count("{") > MAX_DEPTH or text.count(",") > MAX_KEYS:
        measure(value, where)
    if "\\ud" in text or "\\uD" in text:
        _check_surrogates(value, where)
    return value


def measure(value: Any, where: str = "the body") -> int:
    """How many values there are in a value; BadRequest for too many, or nested too deeply."""
    level, count = [value] if isinstance(value, dict | list) else [], 1
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for item in level:
            inner = item.values() if isinstance(item, dict) else item
            if len(inner) > MAX_KEYS and isinstance(item, dict):
                raise BadRequest(
                    f"{where} has an object of over {MAX_KEYS} keys: send less",
                    code="too_many_values",
                )
            count += len(inner)
            below += [each for each in inner if isinstance(each, dict | list)]
        if count > MAX_VALUES:
            raise BadRequest(
                f"{where} holds over {MAX_VALUES} values: send it in parts", code="too_many_values"
            )
        if not below:
            return count
        level = below
    raise BadRequest(f"{where} is nested deeper than {MAX_DEPTH} levels", code="invalid_json")


def count_items(value: Any) -> int:
    """How many texts, messages, prompts, pairs or documents a value asks about, its answers' number
    for each included. Numbers are token ids, and so a list of them is one.
    """
    if isinstance(value, list):
        if value and isinstance(value[0], int | float):
            return 1
        return sum(map(count_items, value))
    if not isinstance(value, dict):
        return 1
    longest = max([1, *(count_items(v) for v in value.values() if isinstance(v, dict | list))])
    parameters = value.get("parameters")
    answers = value.get("n")
    if isinstance(parameters, dict):
        answers = parameters.get("num_return_sequences")
    return longest * (answers if isinstance(answers, int) and answers > 1 else 1)


def read(body: bytes, content: MediaType, most: int) -> Document:
    """A body of any supported type, with at most so many items.

    Raises BadRequest or UnsupportedMediaType.
    """
    if content.type not in READABLE:
        raise UnsupportedMediaType(
            f"Content-Type {content.type!r} is not supported: send {', '.join(READABLE)}"
        )
    text = decode_text(body, content)
    if content.type == media.TEXT:
        return Document(text)
    if content.type == media.JSON:
        value = parse_json(text)
        return _bounded(Document(value, count_items(value)), most)
    if text.count("\n") > LINES_AN_ITEM * most + LINES_AN_ITEM:
        raise BadRequest(
            f"the body has over {most} lines: split it, or set SM_SERVE_MAX_ITEMS",
            code="too_many_items",
        )
    if content.type == media.CSV:
        return _bounded(parse_csv(text), most)
    return _bounded(parse_json_lines(text), most)


def _bounded(document: Document, most: int) -> Document:
    if document.items > most:
        raise BadRequest(
            f"the request has {document.items} items, at most {most} are taken: split it, or set"
            " SM_SERVE_MAX_ITEMS",
            code="too_many_items",
        )
    return document


def _check_surrogates(value: Any, where: str) -> None:
    """Half a character cannot be tokenized or written back as UTF-8."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise BadRequest(
            f"{where} holds half of a surrogate pair (\\ud800 to \\udfff alone), which is no"
            " character: send both halves",
            code="invalid_json",
        ) from error


def parse_json_lines(text: str) -> Document:
    """One JSON value a line; blank lines are skipped, what is no JSON is a fault of its line."""
    values: list[Any] = []
    lines: list[int] = []
    faults: dict[int, tuple[str, str]] = {}
    left = MAX_VALUES
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), start=1):
        if not line.strip():
            continue
        lines.append(number)
        try:
            value = parse_json(line, f"line {number}")
        except BadRequest as error:
            value = None
            faults[number] = error.message, error.code
        left -= 1 + line.count(",")
        if left < 0:
            raise BadRequest(
                f"the body holds over {MAX_VALUES} values: send it in parts", code="too_many_values"
            )
        values.append(value)
    if not values:
        raise BadRequest("the body holds no lines: send one JSON value a line")
    return Document(values, sum(map(count_items, values)), faults, lines)


def parse_csv(text: str) -> Document:
    """A text or, where a header names several columns, an object a row.

    A header is a first row of names that inputs have (`inputs`, `text`, `question`, `context`, …).
    BadRequest where rows of several columns have none: what is not named would be lost.
    """
    try:
        numbered = [
            (number, row)
            for number, row in enumerate(csv.reader(io.StringIO(text, newline=""), strict=True), 1)
            if row
        ]
    except csv.Error as error:
        raise BadRequest(f"the body is not valid CSV: {error}", code="invalid_csv") from error
    first = [cell.strip().lower() for cell in numbered[0][1]] if numbered else []
    known = set(first) & CSV_HEADERS
    header = first if known and (len(first) > 1 or known == set(first)) else []
    rows = numbered[1:] if header else numbered
    if not rows:
        raise BadRequest("the body holds no rows: send one text a row", code="invalid_csv")
    for name in header:
        if name not in CSV_HEADERS or header.count(name) > 1:
            raise BadRequest(
                f"the CSV column {name[:40]!r} is unknown or there twice: the header may name"
                f" {', '.join(sorted(CSV_HEADERS))}",
                code="invalid_csv",
            )
    values = [_read_row(number, row, header or ["text"]) for number, row in rows]
    return Document(values, len(values), lines=[number for number, _ in rows])


def _read_row(number: int, row: list[str], header: list[str]) -> Any:
    if len(row) != len(header):
        raise BadRequest(
            f"row {number} has {len(row)} columns instead of {len(header)}: put quotes around texts"
            " with commas, and for several columns send a header that names them",
            code="invalid_csv",
        )
    return row[0] if len(header) == 1 else dict(zip(header, row, strict=True))
