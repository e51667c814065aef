"""Generation parameters: typed, bounded, and every mistake named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sm_serve.engines.protocol import Sampling
from sm_serve.errors import BadRequest

MAX_STOPS = 16
MAX_STOP_LENGTH = 256
MAX_SEED = 2**63 - 1


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


def read_sampling(parameters: Mapping[str, Any]) -> tuple[Sampling, bool, bool]:
    """The parameters of Hugging Face's text generation.

    Returns the sampling, whether the prompt is repeated in the answer, and whether details are
    asked for. As in text-generation-inference, any of temperature, top_k and top_p switches
    sampling on, and `do_sample: false` switches it off.
    """
    fields = Fields(parameters, "parameters.")
    do_sample = fields.flag("do_sample")
    given = [parameters.get(name) is not None for name in ("temperature", "top_k", "top_p")]
    temperature = fields.number("temperature", 1.0, 0.0, 100.0)
    top_k = fields.integer("top_k", 0, 1_000_000) or 0
    top_p = fields.number("top_p", 1.0, 1e-6, 1.0)
    sample = any(given) if do_sample is None else do_sample
    details = bool(fields.flag("details"))
    sampling = Sampling(
        max_new_tokens=fields.integer("max_new_tokens", 1, 1_000_000),
        temperature=temperature if sample else 0.0,
        top_k=top_k if sample else 0,
        top_p=top_p if sample else 1.0,
        repetition_penalty=fields.number("repetition_penalty", 1.0, 0.01, 10.0),
        seed=fields.integer("seed", 0, MAX_SEED),
        stop=fields.texts("stop") + fields.texts("stop_sequences"),
        ignore_eos=bool(fields.flag("ignore_eos_token")),
    )
    full_text = bool(fields.flag("return_full_text"))
    fields.only("num_return_sequences", 1, None)
    fields.only("num_beams", 1, None)
    fields.only("best_of", 1, None)
    fields.ignore("decoder_input_details", "watermark", "truncate", "use_cache")
    fields.finish()
    return sampling, full_text, details
