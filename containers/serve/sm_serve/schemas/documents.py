"""Reading bodies: text, JSON, JSON Lines and CSV, with bounds and messages that say where."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

from sm_serve.errors import BadRequest
from sm_serve.schemas.media import MediaType

CSV_HEADERS = {"text", "inputs"}
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


def parse_csv(text: str) -> list[str]:
    """The first column of each row; a header row `text` or `inputs` is skipped."""
    try:
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row]
    except csv.Error as error:
        raise BadRequest(f"the body is not valid CSV: {error}", code="invalid_csv") from error
    if rows and rows[0][0].strip().lower() in CSV_HEADERS:
        rows = rows[1:]
    if not rows:
        raise BadRequest("the body holds no rows: send one text a row", code="invalid_csv")
    return [row[0] for row in rows]
