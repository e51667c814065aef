"""Hyperparameter search: which values the trials of a tuning job get."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator
from typing import Any

# Draws without a new combination, after which a space counts as exhausted.
_PATIENCE = 200
# ScalingType Auto: from this ratio of its ends on, a positive range is searched logarithmically.
_AUTO_LOGARITHMIC_RATIO = 100

Values = dict[str, str]


def grid(ranges: dict[str, list[dict[str, Any]]]) -> Iterator[Values]:
    """Every combination of the categorical values, the last parameter varying fastest."""
    categorical = ranges.get("CategoricalParameterRanges", [])
    names = [parameter["Name"] for parameter in categorical]
    for combination in itertools.product(*(parameter["Values"] for parameter in categorical)):
        yield dict(zip(names, combination, strict=True))


def random_search(ranges: dict[str, list[dict[str, Any]]], seed: int | None) -> Iterator[Values]:
    """Independent draws, none twice; ends when the space seems exhausted."""
    generator = random.Random(seed)  # noqa: S311 (a search, no secret)
    seen: set[tuple[tuple[str, str], ...]] = set()
    while True:
        for _ in range(_PATIENCE):
            values = _draw(ranges, generator)
            key = tuple(sorted(values.items()))
            if key not in seen:
                break
        else:
            return
        seen.add(key)
        yield values


def _draw(ranges: dict[str, list[dict[str, Any]]], generator: random.Random) -> Values:
    values = {}
    for parameter in ranges.get("IntegerParameterRanges", []):
        low, high = int(parameter["MinValue"]), int(parameter["MaxValue"])
        drawn = _scaled(low - 0.5, high + 0.5, low, parameter, generator)
        values[parameter["Name"]] = str(min(high, max(low, round(drawn))))
    for parameter in ranges.get("ContinuousParameterRanges", []):
        low_end, high_end = float(parameter["MinValue"]), float(parameter["MaxValue"])
        drawn = _scaled(low_end, high_end, low_end, parameter, generator)
        values[parameter["Name"]] = repr(min(high_end, max(low_end, drawn)))
    for parameter in ranges.get("CategoricalParameterRanges", []):
        values[parameter["Name"]] = generator.choice(parameter["Values"])
    return values


def _scaled(
    low: float, high: float, least: float, parameter: dict[str, Any], generator: random.Random
) -> float:
    """A draw between `low` and `high`, spread as the parameter's ScalingType says.

    Args:
        low, high: the interval.
        least: the range's own lower end, which decides about Auto.
        parameter: the range's definition.
        generator: where randomness comes from.
    """
    scaling = parameter.get("ScalingType", "Auto")
    if scaling == "Auto":
        wide = least > 0 and high / least >= _AUTO_LOGARITHMIC_RATIO
        scaling = "Logarithmic" if wide else "Linear"
    share = generator.random()
    if scaling == "Logarithmic":
        return math.exp(math.log(low) + share * (math.log(high) - math.log(low)))
    if scaling == "ReverseLogarithmic":
        return 1 - math.exp(math.log(1 - low) + share * (math.log(1 - high) - math.log(1 - low)))
    return low + share * (high - low)


def problem_with(ranges: dict[str, list[dict[str, Any]]], strategy: str) -> str | None:
    """What is wrong with the ranges, as SageMaker would find it; None if nothing is."""
    numeric = [
        *ranges.get("IntegerParameterRanges", []),
        *ranges.get("ContinuousParameterRanges", []),
    ]
    if not numeric and not ranges.get("CategoricalParameterRanges"):
        return "ParameterRanges names no parameter"
    if strategy == "Grid" and numeric:
        return f"Strategy Grid takes categorical parameters only, not {numeric[0]['Name']!r}"
    for parameter in numeric:
        problem = _problem_with_range(parameter)
        if problem:
            return f"ParameterRanges {parameter['Name']!r}: {problem}"
    return None


def _problem_with_range(parameter: dict[str, Any]) -> str | None:
    try:
        low, high = float(parameter["MinValue"]), float(parameter["MaxValue"])
    except ValueError:
        return f"{parameter['MinValue']!r} to {parameter['MaxValue']!r} are no numbers"
    scaling = parameter.get("ScalingType", "Auto")
    if low > high:
        return f"MinValue {low:g} is greater than MaxValue {high:g}"
    if scaling == "Logarithmic" and low <= 0:
        return f"ScalingType Logarithmic needs a MinValue greater than 0, not {low:g}"
    if scaling == "ReverseLogarithmic" and not 0 <= low <= high < 1:
        return "ScalingType ReverseLogarithmic needs a range within 0 <= x < 1"
    return None
