"""Confidence intervals by bootstrap: how far the numbers would move on other rows of this kind."""

from __future__ import annotations

from sm_launch.evaluation.result import Interval
from sm_launch.evaluation.task import Statistic

RESAMPLES = 1000
_MOST_DRAWS = 50_000_000
"""Rows drawn in all: larger sets get fewer resamples, and need fewer."""
_FEWEST = 200
LEAST_ROWS = 2


def bootstrap(
    statistic: Statistic, rows: int, *, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Interval]:
    """The 95 % percentile interval of every metric of `statistic`.

    The same rows give the same intervals: the draws are seeded.
    """
    import numpy as np

    if rows < LEAST_ROWS:
        return {}
    chance = np.random.default_rng(seed)
    found: dict[str, list[float]] = {}
    for _ in range(draws(rows, resamples)):
        for name, value in statistic(chance.integers(0, rows, rows)).items():
            found.setdefault(name, []).append(value)
    return {name: _interval(values) for name, values in found.items()}


def draws(rows: int, resamples: int) -> int:
    """How many resamples a set of so many rows gets."""
    return max(min(resamples, _MOST_DRAWS // max(rows, 1)), _FEWEST)


def _interval(values: list[float]) -> Interval:
    import numpy as np

    low, high = np.nanpercentile(values, [2.5, 97.5])
    return Interval(float(low), float(high))
