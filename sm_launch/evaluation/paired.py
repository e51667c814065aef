"""Whether two models differ: tests and intervals of differences on the same rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sm_launch.evaluation.intervals import LEVEL, RESAMPLES, draws, quantile
from sm_launch.evaluation.result import Interval, Prediction
from sm_launch.evaluation.scales import UNBOUNDED, metric_range, share_of_rows
from sm_launch.evaluation.task import Statistic, Task

_EQUAL = 1e-12
"""Sums in another order differ by less."""


@dataclass(frozen=True)
class Paired:
    """One metric of both models."""

    first: float
    second: float
    interval: Interval
    """95 % interval of second minus first."""
    p_value: float
    """Two-sided: how often a difference this clear would come about with equal models."""


def paired_differences(
    one: Sequence[Prediction],
    other: Sequence[Prediction],
    task: Task,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Paired]:
    """Every metric that both models have, on rows that stand at the same places.

    The p-value of a share of rows is McNemar's exact one. That of any other metric comes from
    exchanging the two answers of a row at random (approximate randomisation, Noreen 1989): it holds
    whatever the metric, and a bootstrap's does not on few rows.
    """
    import numpy as np

    rows = len(one)
    both = task.statistic([*one, *other])
    places = np.arange(rows)
    a, b = both(places), both(places + rows)
    names = [name for name in a if name in b]
    spread = _resampled(both, names, rows, resamples, seed)
    exchanged = _exchanged(both, names, rows, resamples, seed)
    differences = {}
    for name in names:
        difference = b[name] - a[name]
        p_value = _exact(name, one, other)
        if p_value is None:
            p_value = _share_as_far(exchanged[name], difference)
        interval = _interval(name, difference, spread[name], rows)
        differences[name] = Paired(a[name], b[name], interval, p_value)
    return differences


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """P-values corrected for how many are looked at together (Holm 1979).

    The chance that any of them is below 0.05 without a difference is then at most 0.05.
    """
    adjusted: dict[str, float] = {}
    largest = 0.0
    ordered = sorted(p_values, key=lambda name: p_values[name])
    for place, name in enumerate(ordered):
        largest = max(largest, min(1.0, p_values[name] * (len(ordered) - place)))
        adjusted[name] = largest
    return {name: adjusted[name] for name in p_values}


def _resampled(
    both: Statistic, names: Sequence[str], rows: int, resamples: int, seed: int
) -> dict[str, list[float]]:
    import numpy as np

    chance = np.random.default_rng(seed)
    drawn: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(draws(rows, resamples)):
        sample = chance.integers(0, rows, rows)
        _add(drawn, both(sample), both(sample + rows))
    return drawn


def _exchanged(
    both: Statistic, names: Sequence[str], rows: int, resamples: int, seed: int
) -> dict[str, list[float]]:
    import numpy as np

    chance = np.random.default_rng(seed + 1)
    places = np.arange(rows)
    drawn: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(draws(rows, resamples)):
        sides = chance.integers(0, 2, rows) * rows
        _add(drawn, both(places + sides), both(places + rows - sides))
    return drawn


def _add(
    drawn: dict[str, list[float]], of_one: Mapping[str, float], of_other: Mapping[str, float]
) -> None:
    for name, values in drawn.items():
        difference = of_other.get(name, math.nan) - of_one.get(name, math.nan)
        if math.isfinite(difference):
            values.append(difference)


def _share_as_far(drawn: Sequence[float], difference: float) -> float:
    # The exchange that was seen counts too: a p-value of 0 is more than so many draws can show.
    as_far = sum(abs(value) >= abs(difference) - _EQUAL for value in drawn)
    return (as_far + 1) / (len(drawn) + 1)


def _exact(name: str, one: Sequence[Prediction], other: Sequence[Prediction]) -> float | None:
    from scipy.stats import binomtest

    a, b = share_of_rows(name, one), share_of_rows(name, other)
    if a is None or b is None:
        return None
    only_one, only_other = int((a > b).sum()), int((b > a).sum())
    differ = only_one + only_other
    return float(binomtest(only_one, differ, 0.5).pvalue) if differ else 1.0


def _interval(name: str, difference: float, drawn: Sequence[float], rows: int) -> Interval:
    """By Bonett and Price (2012): one more pair in favour of either model.

    It has a width where no answer differs, and is theirs where the metric is a share.
    """
    import numpy as np
    from scipy.stats import norm

    if not math.isfinite(difference):
        return Interval(math.nan, math.nan)
    variance = float(np.var(drawn)) * rows / (rows - 1) if drawn else 0.0
    if name in UNBOUNDED:
        width = quantile(rows) * math.sqrt(variance)
        return Interval(difference - width, difference + width)
    low, high = metric_range(name)
    most = high - low
    shrink = rows / (rows + 2)
    width = float(norm.ppf((1 + LEVEL) / 2))
    width *= math.sqrt(variance * shrink + 2 * (most / (rows + 2)) ** 2)
    middle = difference * shrink
    return Interval(max(middle - width, -most), min(middle + width, most))
