"""Scores of predicted numbers: errors, correlations, and the agreement of grades."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_GRADES = 20
"""Whole numbers that lie no further apart are grades, whose agreement kappa measures."""


def regression_scores(expected: Sequence[float], given: Sequence[float]) -> dict[str, float]:
    """Mean squared and absolute error, R2, Pearson's and Spearman's correlation.

    Correlations are 0 where one side is constant; R2 is scikit-learn's. Where all expected numbers
    are whole and few, also Cohen's kappa with quadratic weights of the rounded answers.
    """
    import numpy

    wanted = numpy.asarray(expected, dtype=numpy.float64)
    answers = numpy.asarray(given, dtype=numpy.float64)
    errors = answers - wanted
    scores = {
        "mse": float((errors**2).mean()),
        "mae": float(numpy.abs(errors).mean()),
        "r2": _r2(wanted, errors),
        "pearson": _correlation(wanted, answers),
        "spearman": _correlation(_ranks(wanted), _ranks(answers)),
    }
    if (wanted == wanted.round()).all() and numpy.ptp(wanted) <= MOST_GRADES:
        scores["quadratic_weighted_kappa"] = _kappa(wanted, answers)
    return scores


def _r2(wanted: NDArray[Any], errors: NDArray[Any]) -> float:
    spread, missed = float(((wanted - wanted.mean()) ** 2).sum()), float((errors**2).sum())
    if not spread:
        return float(not missed)
    return 1 - missed / spread


def _correlation(a: NDArray[Any], b: NDArray[Any]) -> float:
    a, b = a - a.mean(), b - b.mean()
    spread = math.sqrt(float((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / spread if spread else 0.0


def _ranks(values: NDArray[Any]) -> NDArray[Any]:
    """From 1; equal values share the mean of their places."""
    import numpy

    _, places, counts = numpy.unique(values, return_inverse=True, return_counts=True)
    last = numpy.cumsum(counts)
    ranks: NDArray[Any] = (last - (counts - 1) / 2)[places]
    return ranks


def _kappa(wanted: NDArray[Any], answers: NDArray[Any]) -> float:
    """The weights are squared distances, so that it follows from means and variances."""
    grades = answers.round().clip(wanted.min(), wanted.max())
    apart = (wanted.mean() - grades.mean()) ** 2
    chance = float(wanted.var() + grades.var() + apart)
    return 1 - float(((wanted - grades) ** 2).mean()) / chance if chance else 0.0
