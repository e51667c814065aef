"""What a field of a body may hold: how it is checked, and how the OpenAPI document describes it.

The fields themselves are in `field_table.py`. A field that is taken is obeyed; a known one that
cannot be obeyed is refused by name, unless its value means that it is off.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sm_serve.errors import BadRequest

Schema = dict[str, Any]
SHOWN = 40
"""Of a wrong value, so many characters are told."""
EMPTY: tuple[Any, ...] = (None, "", [], {})
"""Off for every field that is not offered."""
NOT_OFFERED = "this server does not offer it: leave it out"


@dataclass(frozen=True)
class Kind:
    """Values of one kind: `problem` tells the fix for a wrong one, None for a right one."""

    problem: Callable[[Any], str | None]
    schema: Schema
    example: Any
    """A value other than any default, for tests."""


@dataclass(frozen=True)
class Field:
    """A field of a body by its name.

    `off` are the values of a refused field (one with a `refusal`) that ask for nothing. A `label`
    is bookkeeping of the client's, which changes no answer anywhere.
    """

    name: str
    kind: Kind
    required: bool = False
    label: bool = False
    refusal: str = ""
    off: tuple[Any, ...] = ()

    @property
    def schema(self) -> Schema:
        """As JSON schema. Null stands for absent."""
        if self.refusal:
            return {"enum": [*EMPTY, *(value for value in self.off if value not in EMPTY)]}
        if self.required:
            return self.kind.schema
        return optional(self.kind.schema) if self.kind.schema else {}


def optional(schema: Schema) -> Schema:
    """The same or null, which stands for absent."""
    return {"anyOf": [schema, {"type": "null"}]}


def integer(low: int, high: int, example: int | None = None) -> Kind:
    """A whole number within bounds."""

    def problem(value: Any) -> str | None:
        right = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
        return None if right else f"give a whole number from {low} to {high}"

    schema = {"type": "integer", "minimum": low, "maximum": high}
    return Kind(problem, schema, low + 1 if example is None else example)


def number(low: float, high: float, example: float) -> Kind:
    """A number within bounds."""

    def problem(value: Any) -> str | None:
        right = isinstance(value, int | float) and not isinstance(value, bool)
        return None if right and low <= value <= high else f"give a number from {low:g} to {high:g}"

    return Kind(problem, {"type": "number", "minimum": low, "maximum": high}, example)


def flag(example: bool = True) -> Kind:
    """true or false."""

    def problem(value: Any) -> str | None:
        return None if isinstance(value, bool) else "give true or false"

    return Kind(problem, {"type": "boolean"}, example)


def text(*allowed: str, example: str = "x", most: int = 0) -> Kind:
    """A text; one of `allowed`, or of 1 to `most` characters, where these are given."""

    def problem(value: Any) -> str | None:
        if allowed:
            return None if value in allowed else f"give {' or '.join(allowed)}"
        if isinstance(value, str) and (not most or 0 < len(value) <= most):
            return None
        return f"give a text of 1 to {most} characters" if most else "give a text"

    schema: Schema = {"enum": list(allowed)} if allowed else {"type": "string"}
    if most:
        schema |= {"minLength": 1, "maxLength": most}
    return Kind(problem, schema, allowed[-1] if allowed else example)


def texts(most: int, longest: int) -> Kind:
    """A text or a list of texts, none empty."""

    def problem(value: Any) -> str | None:
        values = [value] if isinstance(value, str) else value
        if not isinstance(values, list) or len(values) > most:
            return f"give a text or a list of at most {most} texts"
        if all(isinstance(item, str) and 0 < len(item) <= longest for item in values):
            return None
        return f"give texts of 1 to {longest} characters"

    one: Schema = {"type": "string", "minLength": 1, "maxLength": longest}
    several = {"type": "array", "items": one, "maxItems": most}
    return Kind(problem, {"anyOf": [one, several]}, "stop")


def biases(most: int) -> Kind:
    """An object from token ids to numbers of -100 to 100."""
    fix = 'give an object such as {"42": -100}, token ids to numbers from -100 to 100'

    def right(token: str, bias: Any) -> bool:
        number = isinstance(bias, int | float) and not isinstance(bias, bool)
        return token.isascii() and token.isdigit() and number and -100 <= bias <= 100

    def problem(value: Any) -> str | None:
        fits = isinstance(value, dict) and len(value) <= most
        return None if fits and all(right(*item) for item in value.items()) else fix

    schema = {
        "type": "object",
        "propertyNames": {"pattern": "^[0-9]+$"},
        "additionalProperties": {"type": "number", "minimum": -100, "maximum": 100},
        "maxProperties": most,
    }
    return Kind(problem, schema, {"5": 7.5})


def shaped(
    schema: Schema, example: Any, kind: type | tuple[type, ...] = object, fix: str = ""
) -> Kind:
    """A value of this type whose inside its reader checks."""

    def problem(value: Any) -> str | None:
        return None if isinstance(value, kind) else fix

    return Kind(problem, schema, example)


ANYTHING = shaped({}, "x")


def is_off(value: Any, off: Sequence[Any]) -> bool:
    """Whether a value asks for nothing. true is not 1 here."""
    return any(
        value == other and isinstance(value, bool) == isinstance(other, bool)
        for other in (*EMPTY, *off)
    )


class Values(Mapping[str, Any]):
    """The fields of a body that are given and not null, checked one by one."""

    def __init__(
        self, table: Sequence[Field], body: Mapping[str, Any], where: str = "", whose: str = ""
    ) -> None:
        """Raises BadRequest for the first field that is unknown, wrong, or cannot be obeyed."""
        self.where = where
        known = {field.name: field for field in table}
        self._values = {name: value for name, value in body.items() if value is not None}
        for name, value in body.items():
            field = known.get(name)
            if field is None:
                raise BadRequest(_unknown(table, where + name, whose), code="unknown_parameter")
            if field.refusal:
                if not is_off(value, field.off):
                    raise self.wrong(name, value, field.refusal)
                self._values.pop(name, None)
            elif value is not None and (fix := field.kind.problem(value)):
                raise self.wrong(name, value, fix)

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Any:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def number(self, name: str, default: float) -> float:
        """A number."""
        return float(self._values.get(name, default))

    def flag(self, name: str) -> bool:
        """True where the field is true."""
        return bool(self._values.get(name))

    def texts(self, name: str) -> tuple[str, ...]:
        """A text or several as a tuple."""
        value = self._values.get(name, ())
        return (value,) if isinstance(value, str) else tuple(value)

    def wrong(self, name: str, value: Any, fix: str) -> BadRequest:
        """The error for a field: its name, its value, the fix."""
        shown = repr(value)
        shown = shown if len(shown) <= SHOWN else shown[: SHOWN - 3] + "..."
        return BadRequest(f"{self.where}{name}={shown}: {fix}", code="invalid_parameter")


def _unknown(table: Sequence[Field], name: str, whose: str) -> str:
    if not whose:
        return f"{name} is unknown: leave it out"
    taken = ", ".join(sorted(field.name for field in table if not field.refusal))
    return f"{name} is unknown to {whose}: it takes {taken}"


def closed(table: Sequence[Field]) -> Schema:
    """A JSON schema of an object with these fields and no others."""
    return {
        "type": "object",
        "properties": {field.name: field.schema for field in table},
        "required": [field.name for field in table if field.required],
        "additionalProperties": False,
    }
