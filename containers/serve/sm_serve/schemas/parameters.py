"""Generation parameters: typed, bounded, and every mistake named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sm_serve.engines.protocol import Sampling
from sm_serve.errors import BadRequest

MAX_STOPS = 16
MAX_STOP_LENGTH = 256
MAX_SEED = 2**63 - 1
MAX_BIASES = 1024
MAX_TOP_LOGPROBS = 20


UNTOLD = Sampling(temperature=1.0)
"""How tokens are chosen where neither the request nor the model's authors say."""


class Fields:
    """Takes values out of a JSON object by name and type; `finish` refuses what is left over."""

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self._values = dict(values)
        self._where = where

    def number(self, name: str, default: float, low: float, high: float) -> float:
        """A number within bounds; null and absent give the default."""
        value = self._values.pop(name, None)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.wrong(name, value, f"give a number from {low:g} to {high:g}")
        if not low <= value <= high:
            raise self.wrong(name, value, f"give a number from {low:g} to {high:g}")
        return float(value)

    def integer(self, name: str, low: int, high: int) -> int | None:
        """A whole number within bounds, or None."""
        value = self._values.pop(name, None)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self.wrong(name, value, f"give a whole number from {low} to {high}")
        return value

    def flag(self, name: str) -> bool | None:
        """true, false or None."""
        value = self._values.pop(name, None)
        if value is None or isinstance(value, bool):
            return value
        raise self.wrong(name, value, "give true or false")

    def text(self, name: str, *allowed: str) -> str | None:
        """A text, one of `allowed` where that is given, or None."""
        value = self._values.pop(name, None)
        if value is None or (isinstance(value, str) and (not allowed or value in allowed)):
            return value
        raise self.wrong(name, value, f"give {' or '.join(allowed) or 'a text'}")

    def texts(self, name: str) -> tuple[str, ...]:
        """A text or a list of texts, none empty."""
        value = self._values.pop(name, None)
        if value is None:
            return ()
        values = [value] if isinstance(value, str) else value
        if not isinstance(values, list) or len(values) > MAX_STOPS:
            raise self.wrong(name, value, f"give a text or a list of at most {MAX_STOPS} texts")
        for item in values:
            if not isinstance(item, str) or not 0 < len(item) <= MAX_STOP_LENGTH:
                raise self.wrong(name, item, f"give texts of 1 to {MAX_STOP_LENGTH} characters")
        return tuple(values)

    def biases(self, name: str) -> tuple[tuple[int, float], ...]:
        """An object from token ids to numbers of -100 to 100."""
        value = self._values.pop(name, None)
        if value is None:
            return ()
        fix = 'give an object such as {"42": -100}, token ids to numbers from -100 to 100'
        if not isinstance(value, dict) or len(value) > MAX_BIASES:
            raise self.wrong(name, value, fix)
        found = {}
        for token, bias in value.items():
            number = isinstance(bias, int | float) and not isinstance(bias, bool)
            if not (token.isascii() and token.isdigit()) or not number or not -100 <= bias <= 100:
                raise self.wrong(name, {token: bias}, fix)
            found[int(token)] = float(bias)
        return tuple(sorted(found.items()))

    def take(self, name: str) -> Any:
        """A value as it is, or None."""
        return self._values.pop(name, None)

    def ignore(self, *names: str) -> None:
        """Drops fields that change nothing here."""
        for name in names:
            self._values.pop(name, None)

    def only(self, name: str, *allowed: Any) -> None:
        """Takes a field that the engine cannot serve except for these values."""
        if name in self._values and self._values[name] not in allowed:
            raise self.wrong(name, self._values[name], "this engine does not support it: leave it")
        self._values.pop(name, None)

    def finish(self) -> None:
        """Raises BadRequest for the first unknown field."""
        for name in sorted(self._values):
            raise BadRequest(
                f"{self._where}{name} is unknown: leave it out", code="unknown_parameter"
            )

    def wrong(self, name: str, value: Any, fix: str) -> BadRequest:
        """The error for a field: its name, its value, the fix."""
        shown = repr(value)
        shown = shown if len(shown) <= 40 else shown[:37] + "..."
        return BadRequest(f"{self._where}{name}={shown}: {fix}", code="invalid_parameter")
