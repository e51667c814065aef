"""Reading bodies: text, JSON, JSON Lines and CSV, with bounds and messages that say where."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

from sm_serve.errors import BadRequest
from sm_serve.schemas.media import MediaType

CSV_HEADERS = {"text", "inputs", "text_pair", "question", "context"}
"""Columns of a CSV body, by the names that inputs have."""
MAX_DEPTH = 64
"""Deepest nesting of a JSON body; no wire format needs ten levels."""


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


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
    if text.count("[") + text.count("{") > MAX_DEPTH:
        check_depth(value, where)
    if "\\ud" in text or "\\uD" in text:
        _check_surrogates(value, where)
    return value


def check_depth(value: Any, where: str = "the body") -> None:
    """Raises BadRequest when arrays and objects are nested deeper than MAX_DEPTH."""
    level = [value]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                below.extend(item.values())
            elif isinstance(item, list):
                below.extend(item)
        level = [item for item in below if isinstance(item, dict | list)]
        if not level:
            return
    raise BadRequest(f"{where} is nested deeper than {MAX_DEPTH} levels", code="invalid_json")


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


def parse_json_lines(text: str) -> list[Any]:
    """One JSON value a line; blank lines are skipped. BadRequest names the line."""
    lines = text.replace("\r\n", "\n").split("\n")
    values = [
        parse_json(line, f"line {number}")
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]
    if not values:
        raise BadRequest("the body holds no lines: send one JSON value a line")
    return values


def parse_csv(text: str) -> list[Any]:
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
    return [_read_row(number, row, header or ["text"]) for number, row in rows]


def _read_row(number: int, row: list[str], header: list[str]) -> Any:
    if len(row) != len(header):
        raise BadRequest(
            f"row {number} has {len(row)} columns instead of {len(header)}: put quotes around texts"
            " with commas, and for several columns send a header that names them",
            code="invalid_csv",
        )
    return row[0] if len(header) == 1 else dict(zip(header, row, strict=True))
