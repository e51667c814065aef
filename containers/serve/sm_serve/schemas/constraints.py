"""What an answer must be, in the words of OpenAI, vLLM and text-generation-inference."""

from __future__ import annotations

import json
from typing import Any

from sm_serve.engines.protocol import Constraint, ConstraintKind
from sm_serve.errors import BadRequest
from sm_serve.schemas.parameters import Fields

MAX_CONSTRAINT = 100_000
MAX_CHOICES = 1_000
GUIDED = {
    "guided_json": "json",
    "guided_regex": "regex",
    "guided_choice": "choice",
    "guided_grammar": "grammar",
}
"""vLLM's older fields and their names inside `structured_outputs`, the newer one."""


def read_openai(fields: Fields) -> Constraint | None:
    """`response_format`, `structured_outputs` or a `guided_…` field; BadRequest for two of them."""
    found = [
        _response_format(fields.take("response_format")),
        _structured(fields.take("structured_outputs")),
        *(_vllm(kind, fields.take(name), name) for name, kind in GUIDED.items()),
    ]
    return _only_one([constraint for constraint in found if constraint is not None])


def read_grammar(value: Any) -> Constraint | None:
    """text-generation-inference's `grammar`: {"type": "json" or "regex", "value": ...}."""
    if value is None:
        return None
    kinds = {"json": "json", "json_object": "json", "regex": "regex"}
    kind = value.get("type") if isinstance(value, dict) else None
    if not isinstance(kind, str) or kind not in kinds or value.get("value") is None:
        raise BadRequest('parameters.grammar: give {"type": "json" or "regex", "value": ...}')
    return _vllm(kinds[kind], value["value"], "parameters.grammar")


def _response_format(value: Any) -> Constraint | None:
    if value is None:
        return None
    kind = value.get("type") if isinstance(value, dict) else None
    if kind == "text":
        return None
    if kind == "json_object":
        return _vllm("json", {"type": "object"}, "response_format")
    if kind == "json_schema":
        inner = value.get("json_schema")
        if isinstance(inner, dict) and "schema" in inner:
            return _vllm("json", inner["schema"], "response_format")
        raise BadRequest("response_format.json_schema.schema is missing: give a JSON schema")
    raise BadRequest(
        f"response_format.type={str(kind)[:40]!r}: give text, json_object or json_schema",
        code="invalid_parameter",
    )


def _structured(value: Any) -> Constraint | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise BadRequest("structured_outputs must be an object")
    found = []
    for name, inner in value.items():
        if inner is None or inner is False:
            continue
        if name == "json_object":
            found.append(_vllm("json", {"type": "object"}, "structured_outputs.json_object"))
        elif name in GUIDED.values():
            found.append(_vllm(name, inner, f"structured_outputs.{name}"))
        else:
            raise BadRequest(
                f"structured_outputs.{name} is unknown: give one of json, json_object, regex,"
                " choice, grammar"
            )
    return _only_one([constraint for constraint in found if constraint is not None])


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
    if not 0 < len(texts) <= MAX_CHOICES or not all(isinstance(t, str) and t for t in texts):
        raise BadRequest(f"{field}: give a list of 1 to {MAX_CHOICES} texts, none empty")
    return Constraint(ConstraintKind.CHOICE, json.dumps(texts), field)


def _only_one(found: list[Constraint]) -> Constraint | None:
    if len(found) > 1:
        names = " and ".join(constraint.field for constraint in found)
        raise BadRequest(f"{names} cannot hold at once: leave all but one out")
    return found[0] if found else None
