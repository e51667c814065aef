"""Hyperparameter values in every encoding, decoded to the type their schema asks for.

SageMaker's map is string to string. SDK v2 JSON-quotes each value, SDK v3 and raw boto3 do not,
`ModelTrainer` in local mode sends bool as "true" and dicts as JSON, and people paste Python
literals and comma-separated lists. The wanted type settles what a string means.
"""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Callable
from typing import Any

_MAX_LAYERS = 3  # JSON in JSON in JSON is as deep as any SDK has been seen to quote
_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})
_NULL = frozenset({"null", "none", ""})

Decoder = Callable[[Any, dict[str, Any]], Any]


def schema_types(schema: dict[str, Any]) -> list[str]:
    """The JSON types that a property allows."""
    kind = schema.get("type", [])
    return list(kind) if isinstance(kind, list) else [kind]


def decode(raw: Any, schema: dict[str, Any]) -> Any:
    """`raw` as the first of the schema's types that it can be read as.

    Raises ValueError with what was expected when it fits none of them.
    """
    types = schema_types(schema)
    if not types:
        return unquote(raw)
    for kind in sorted(types, key=_ORDER.index):
        try:
            value = _DECODERS[kind](raw, schema)
        except (ValueError, TypeError):
            continue
        return _checked(value, schema)
    raise ValueError(f"expected {' or '.join(_DESCRIBED[k] for k in types)}")


def unquote(raw: Any) -> Any:
    """Peel JSON (or Python literal) quoting layer by layer; text that is neither stays as it is."""
    for _ in range(_MAX_LAYERS):
        if not isinstance(raw, str):
            return raw
        peeled = _literal(raw.strip())
        if peeled is raw or peeled == raw:
            return raw
        raw = peeled
    return raw


def _literal(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    if text[:1] in "[{('\"":
        try:
            return ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            pass
    return text


def _to_null(raw: Any, _: dict[str, Any]) -> None:
    value = unquote(raw)
    if value is None or (isinstance(value, str) and value.strip().lower() in _NULL):
        return
    raise ValueError


def _to_bool(raw: Any, _: dict[str, Any]) -> bool:
    value = unquote(raw)
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ValueError


def _to_integer(raw: Any, _: dict[str, Any]) -> int:
    value = unquote(raw)
    if isinstance(value, bool):
        raise ValueError
    number = value if isinstance(value, int) else float(value)
    if isinstance(number, float) and not number.is_integer():
        raise ValueError
    return int(number)


def _to_number(raw: Any, _: dict[str, Any]) -> float:
    value = unquote(raw)
    if isinstance(value, bool):
        raise ValueError
    if isinstance(value, int):
        return value
    number = float(value)
    if not math.isfinite(number):
        raise ValueError
    return number


def _to_string(raw: Any, schema: dict[str, Any]) -> str:
    """The string itself: "1" stays "1", but a JSON-quoted string loses its quotes."""
    if isinstance(raw, bool):
        # YAML reads a bare `no` as False, and `no` is what eval_strategy calls it.
        raw = {True: "yes", False: "no"}[raw] if "no" in schema.get("enum", []) else str(raw)
    if isinstance(raw, int | float):
        return str(raw)
    if not isinstance(raw, str):
        raise TypeError
    text = raw
    for _ in range(_MAX_LAYERS):
        peeled = _literal(text.strip()) if text.strip()[:1] in ('"', "'") else text
        if not isinstance(peeled, str) or peeled == text:
            break
        text = peeled
    options = [o for o in schema.get("enum", []) if isinstance(o, str)]
    return next((o for o in options if o.lower() == text.strip().lower()), text)


def _to_array(raw: Any, schema: dict[str, Any]) -> list[Any]:
    value = unquote(raw)
    if isinstance(value, tuple | set):
        value = list(value)
    if isinstance(value, str) and value.strip():
        # A lone word could also be meant as a string, if the schema allows one.
        if "," not in value and "string" in schema_types(schema):
            raise ValueError
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, list):
        if isinstance(value, dict) or value is None:
            raise ValueError
        value = [value]
    items = schema.get("items")
    return [decode(item, items) for item in value] if items else value


def _to_object(raw: Any, _: dict[str, Any]) -> dict[str, Any]:
    value = unquote(raw)
    if not isinstance(value, dict):
        raise TypeError
    return value


def _checked(value: Any, schema: dict[str, Any]) -> Any:
    """Apply enum and bounds; raises ValueError with the rule that is broken."""
    if value is None:
        return None
    if "enum" in schema and not isinstance(value, list | dict) and value not in schema["enum"]:
        raise ValueError(f"expected one of {', '.join(map(str, schema['enum']))}")
    if isinstance(value, int | float) and not isinstance(value, bool):
        for rule, holds, word in _BOUNDS:
            if rule in schema and not holds(value, schema[rule]):
                raise ValueError(f"must be {word} {schema[rule]}")
    if isinstance(value, list) and len(value) < schema.get("minItems", 0):
        raise ValueError(f"needs at least {schema['minItems']} items")
    return value


_BOUNDS: tuple[tuple[str, Callable[[float, float], bool], str], ...] = (
    ("minimum", lambda v, b: v >= b, "at least"),
    ("maximum", lambda v, b: v <= b, "at most"),
    ("exclusiveMinimum", lambda v, b: v > b, "greater than"),
    ("exclusiveMaximum", lambda v, b: v < b, "less than"),
)
_DECODERS: dict[str, Decoder] = {
    "null": _to_null,
    "boolean": _to_bool,
    "integer": _to_integer,
    "number": _to_number,
    "array": _to_array,
    "object": _to_object,
    "string": _to_string,
}
# A string fits everything, so it is tried last; null first, or "null" would be text.
_ORDER = list(_DECODERS)
_DESCRIBED = {
    "null": "null",
    "boolean": "true or false",
    "integer": "a whole number",
    "number": "a number",
    "array": "a list",
    "object": "a JSON object",
    "string": "text",
}
