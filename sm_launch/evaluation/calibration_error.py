"""The calibration error without what chance adds to it, and an interval that covers.

The plain expected calibration error of a perfectly calibrated model is not 0 on few rows: in each
bin the share of right answers misses the confidence by chance, and the distances add up. So the
error is told by inversion: of all models whose bins miss in the proportions that were seen, from
not at all to several times as far, the ones whose plain error would come out as it did.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from sm_launch.evaluation.result import CalibrationBin, Interval

_DRAWS = 1000
_FARTHEST = 4.0
"""Times the distances that were seen; beyond, no model is tried."""
_STEPS = 12
_BELOW, _ABOVE = 0.025, 0.015
"""Tails of the interval. The upper one is smaller: the direction of the miss is estimated too."""
_EQUAL = 1e-12


class CalibrationError(NamedTuple):
    """Of the model, not of the rows: median-unbiased, with a 95 % interval."""

    value: float
    interval: Interval


def debiased_error(bins: Sequence[CalibrationBin], *, seed: int = 0) -> CalibrationError:
    """Expected calibration error corrected for chance; the same bins give the same answer.

    Args:
        bins: of `calibrate`; at least one.
        seed: of the simulation.
    """
    import numpy as np

    counts = np.array([each.rows for each in bins], dtype=np.int64)
    confidence = np.array([each.confidence for each in bins])
    gap = np.array([each.accuracy for each in bins]) - confidence
    weights = counts / counts.sum()
    seen = float((weights * np.abs(gap)).sum())

    def error(times: float) -> float:
        right = np.clip(confidence + times * gap, 0, 1)
        return float((weights * np.abs(right - confidence)).sum())

    def plain(times: float) -> float:
        """Share of simulated sets with a plain error of at least what was seen."""
        right = np.clip(confidence + times * gap, 0, 1)
        hits = np.random.default_rng(seed).binomial(counts, right, size=(_DRAWS, len(counts)))
        errors = (weights * np.abs(hits / counts - confidence)).sum(axis=1)
        return float((errors >= seen - _EQUAL).mean())

    low = error(_first(lambda times: plain(times) > _BELOW))
    value = error(_first(lambda times: plain(times) >= 0.5))
    high = error(_first(lambda times: plain(times) > 1 - _ABOVE))
    return CalibrationError(value, Interval(low, max(high, seen)))


def _first(reached: Callable[[float], bool]) -> float:
    """The least multiple for which it holds, as it does for all above."""
    low, high = 0.0, _FARTHEST
    if reached(low) or not reached(high):
        return low if reached(low) else high
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high
