"""What an answer must be, in the words of OpenAI, vLLM and text-generation-inference."""

from __future__ import annotations

import json
from typing import Any

from sm_serve.errors import BadRequest
from sm_serve.protocol import Constraint, ConstraintKind
from sm_serve.schemas.field_table import MAX_CHOICE_TEXTS, MAX_CONSTRAINT
from sm_serve.schemas.fields import Values

VALUE_FORMATS = {"json": "json", "json_object": "json", "json_schema": "json", "regex": "regex"}
"""Of text-generation-inference: {"type": ..., "value": ...}."""
FORMATS = "text, json_object, json_schema, json or regex"
GUIDED = {
    "guided_json": "json",
    "guided_regex": "regex",
    "guided_choice": "choice",
    "guided_grammar": "grammar",
}
"""vLLM's older fields and their names inside `structured_outputs`, the newer one."""


def read_constraint(fields: Values) -> Constraint | None:
    """What the answer is held to, in whichever dialect; BadRequest for two at once.

    `response_format` (OpenAI's, and with `value` text-generation-inference's), `grammar` (the
    latter's), `structured_outputs` and `guided_…` (vLLM's).
    """
    where = fields.where
    constraints = [
        *(_format(fields.get(name), where + name) for name in ("response_format", "grammar")),
        _structured(fields.get("structured_outputs"), f"{where}structured_outputs"),
        *(_vllm(kind, fields.get(name), where + name) for name, kind in GUIDED.items()),
    ]
    return _only_one([constraint for constraint in constraints if constraint is not None])


def _format(value: Any, field: str) -> Constraint | None:
    """An object with a `type`. What else it holds is read or refused."""
    if value is None:
        return None
    kind = value.get("type")
    rest = {name: inner for name, inner in value.items() if name != "type" and inner is not None}
    if kind == "text" and not rest:
        return None
    if isinstance(kind, str) and kind in VALUE_FORMATS and set(rest) == {"value"}:
        inner = rest["value"]
        if kind == "json_schema" and isinstance(inner, dict) and "schema" in inner:
            inner = inner["schema"]
        return _vllm(VALUE_FORMATS[kind], inner, f"{field}.value")
    if kind == "json_object" and set(rest) <= {"schema"}:
        return _vllm("json", rest.get("schema", {"type": "object"}), field)
    if kind == "json_schema":
        return _named_schema(rest, field)
    if kind in ("json", "regex"):
        raise BadRequest(f'{field}: give {{"type": "json" or "regex", "value": ...}} and no more')
    raise BadRequest(
        f"{field}.type={str(kind)[:40]!r}: give {FORMATS}, without fields of another type",
        code="invalid_parameter",
    )


def _named_schema(rest: dict[str, Any], field: str) -> Constraint | None:
    """OpenAI's named schema, in an object of its own or, as in its responses, beside the type."""
    inner, place = rest, field
    if "json_schema" in rest:
        inner, place = rest["json_schema"], f"{field}.json_schema"
    if not isinstance(inner, dict) or inner.get("schema") is None:
        raise BadRequest(f"{field}.json_schema.schema is missing: give a JSON schema")
    known = {"schema", "name", "strict", "description"}
    extra = sorted(set(inner) - known) + sorted(set(rest) - {"json_schema"} - known)
    if extra or (inner is not rest and set(rest) != {"json_schema"}):
        name = (extra or sorted(set(rest) - {"json_schema"}))[0]
        raise BadRequest(f"{place}.{name} is unknown: leave it out", code="unknown_parameter")
    return _vllm("json", inner["schema"], place)


def _structured(value: Any, field: str) -> Constraint | None:
    if value is None:
        return None
    constraints = []
    for name, inner in value.items():
        if inner is None or inner is False:
            continue
        if name == "json_object":
            constraints.append(_vllm("json", {"type": "object"}, f"{field}.json_object"))
        elif name in GUIDED.values():
            constraints.append(_vllm(name, inner, f"{field}.{name}"))
        else:
            raise BadRequest(
                f"{field}.{name} is unknown: give one of json, json_object, regex, choice, grammar"
            )
    return _only_one([constraint for constraint in constraints if constraint is not None])


def _vllm(kind: str, value: Any, field: str) -> Constraint | None:
    if value is None:
        return None
    if kind == "json":
        return _json_schema(value, field)
    if kind == "choice":
        return _choice(value, field)
    if not isinstance(value, str) or not 0 < len(value) <= MAX_CONSTRAINT:
        raise BadRequest(f"{field}: give a text of 1 to {MAX_CONSTRAINT} characters")
    return Constraint(ConstraintKind(kind), value, field)


def _json_schema(value: Any, field: str) -> Constraint:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise BadRequest(f"{field} is a text, but not of JSON: give a JSON schema") from error
    if not isinstance(value, dict):
        raise BadRequest(f"{field}: give a JSON schema as an object")
    text = json.dumps(value)
    if len(text) > MAX_CONSTRAINT:
        raise BadRequest(f"{field} is longer than {MAX_CONSTRAINT} characters: shorten it")
    return Constraint(ConstraintKind.JSON_SCHEMA, text, field)


def _choice(value: Any, field: str) -> Constraint:
    texts = value if isinstance(value, list) else []
    if not 0 < len(texts) <= MAX_CHOICE_TEXTS or not all(isinstance(t, str) and t for t in texts):
        raise BadRequest(f"{field}: give a list of 1 to {MAX_CHOICE_TEXTS} texts, none empty")
    return Constraint(ConstraintKind.CHOICE, json.dumps(texts), field)


def _only_one(constraints: list[Constraint]) -> Constraint | None:
    if len(constraints) > 1:
        names = " and ".join(constraint.field for constraint in constraints)
        raise BadRequest(f"{names} cannot hold at once: leave all but one out")
    return constraints[0] if constraints else None
