"""What is known of a metric by its name: its range, which way is better, whether it is a share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sm_launch.evaluation.result import Prediction

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_ERRORS = frozenset({"loss", "perplexity", "word_perplexity", "byte_perplexity", "mse", "mae"})
"""From 0 up without an end."""
SIGNED = frozenset({"margin", "mean_reward", "r2"})
"""Without an end on either side."""
UNBOUNDED = _ERRORS | SIGNED
"""The others lie in a range."""
LOWER_IS_BETTER = _ERRORS | {"brier", "ece", "ece_debiased", "hamming_loss"}
_RANGES = {
    "mcc": (-1.0, 1.0),
    "brier": (0.0, 2.0),
    "bleu": (0.0, 100.0),
    "chrf": (0.0, 100.0),
    "cosine_mcc": (-1.0, 1.0),
    "pearson": (-1.0, 1.0),
    "spearman": (-1.0, 1.0),
    "quadratic_weighted_kappa": (-1.0, 1.0),
    "pearson_cosine": (-1.0, 1.0),
    "spearman_cosine": (-1.0, 1.0),
}
_OF_ALL_ROWS = frozenset({"accuracy", "recall_weighted"})
"""Shares of rows whose label was named right: the weighted mean of recalls is the accuracy."""
_OF_VALUES = frozenset(
    {"exact_match", "HasAns_exact", "NoAns_exact", "cosine_accuracy@1", "cosine_accuracy@10"}
    | {"cosine_accuracy", "accuracy", "subset_accuracy"}
)


def metric_range(name: str) -> tuple[float, float]:
    """The least and the greatest value that a bounded metric can have."""
    return _RANGES.get(name, (0.0, 1.0))


def share_of_rows(name: str, predictions: Sequence[Prediction]) -> NDArray[np.float64] | None:
    """1 and 0 a row, NaN where a row does not count, of a metric that is a share of rows.

    None for any other metric.
    """
    import numpy as np

    if name in _OF_ALL_ROWS and not any(p.values for p in predictions):
        return np.array([float(p.gold == p.predicted) for p in predictions])
    if name not in _OF_VALUES:
        return None
    values = np.array([p.values.get(name, np.nan) for p in predictions], dtype=float)
    known = set(values[~np.isnan(values)].tolist())
    return values if known and known <= {0.0, 1.0} else None
