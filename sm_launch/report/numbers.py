"""Numbers as people read them: labels of axes are distinct and right, and none is 0.0000."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

SMALLEST_P = 0.0001
_LEAST_DECIMAL = 1e-3
_MOST_DECIMAL = 1e6
# How far a label may be from its tick, as a share of the step between two.
_CLOSE = 1e-3


def nice_ticks(low: float, high: float, wanted: int = 5, *, whole: bool = False) -> list[float]:
    """About `wanted` round numbers (1, 2, 2.5 or 5 times a power of ten) that span low to high.

    With `whole` none of them is a fraction.
    """
    least = max(abs(low), abs(high)) * 1e-12
    if not high - low > least:
        spread = abs(low) * 0.1 or 1.0
        low, high = low - spread, high + spread
    raw = (high - low) / max(wanted - 1, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * (1 - 1e-9))
    if whole:
        step = math.ceil(step)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{i * step:.15g}") for i in range(first, last + 1)]


def axis_labels(ticks: Sequence[float]) -> list[str]:
    """A label for each tick of an axis, all in one form, with as many digits as they need.

    No two of different ticks are equal, and each is its tick but for a thousandth of a step.
    """
    steps = [b - a for a, b in pairwise(ticks) if b > a]
    close = min(steps, default=abs(ticks[0]) if ticks else 0.0) * _CLOSE
    top = max((abs(tick) for tick in ticks), default=0.0)
    scientific = top >= _MOST_DECIMAL or 0 < top < _LEAST_DECIMAL
    for digits in range(17):
        labels = [_label(tick, digits, scientific) for tick in ticks]
        if all(
            abs(_value(label) - tick) <= close for label, tick in zip(labels, ticks, strict=True)
        ):
            return labels
    return [repr(tick) for tick in ticks]


def _label(value: float, digits: int, scientific: bool) -> str:
    if value == 0:
        return "0"
    if scientific:
        return _short_exponent(f"{value:.{digits}e}")
    text = f"{value:,.{digits}f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def _value(label: str) -> float:
    return float(label.replace(",", ""))


def _short_exponent(text: str) -> str:
    mantissa, _, exponent = text.partition("e")
    mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
    return f"{mantissa}e{int(exponent)}"


def number(value: float) -> str:
    """One number by itself, short: at most four decimals, or three digits and a power of ten."""
    value += 0.0  # -0 is 0
    if value and (abs(value) >= _MOST_DECIMAL or abs(value) < _LEAST_DECIMAL):
        return _short_exponent(f"{value:.2e}")
    return f"{value:,.4f}".rstrip("0").rstrip(".")


def short(value: float) -> str:
    """One number with three digits and whole ones, as many as a chart has room for."""
    digits = 2 - math.floor(math.log10(abs(value))) if value else 0
    rounded = round(value, min(max(digits, 0), 12))
    if _LEAST_DECIMAL <= abs(rounded) < 1:  # where `number` has four decimals, which are two digits
        return f"{rounded:.{digits}f}".rstrip("0")
    return number(rounded)


def decimal(value: float, *, sign: bool = False) -> str:
    """Four decimals, for columns; what would be nothing but zeros has a power of ten instead."""
    value += 0.0  # -0 is 0
    plus = "+" if sign else ""
    if value and abs(value) < _LEAST_DECIMAL:
        return f"{value:{plus}.2e}"
    return f"{value:{plus}.4f}"


def p_value(value: float) -> str:
    """A p-value; none is 0."""
    return f"< {SMALLEST_P}" if value < SMALLEST_P else f"{value:.4f}"


def equals(p: float) -> str:
    """The same behind a name: `= 0.0412`, `< 0.0001`."""
    told = p_value(p)
    return told if told.startswith("<") else f"= {told}"
