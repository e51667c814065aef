"""95 % confidence intervals that cover: how far the numbers would move on other rows of this kind.

A share of rows has the exact interval (mid-p). Any other metric gets its variance from the
bootstrap, and the interval of a share of that variance: of so many rows as would give it
(the effective sample size of survey statistics, Korn and Graubard 1998). It is skewed as it must be
near the ends of the range, and has a width where all rows are right, where a bootstrap has none.
Losses are positive without an end: theirs is Student's on the logarithm.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from sm_launch.evaluation.result import Interval, Prediction
from sm_launch.evaluation.scales import SIGNED, UNBOUNDED, metric_range, share_of_rows
from sm_launch.evaluation.task import Statistic, Task

LEVEL = 0.95
RESAMPLES = 1000
_MOST_DRAWS = 50_000_000
"""Rows drawn in all: larger sets get fewer resamples, and need fewer."""
_FEWEST = 200
LEAST_ROWS = 2
_TAIL = (1 - LEVEL) / 2
_NOTHING = 1e-12
_BY_LABEL = frozenset({"precision_macro", "recall_macro", "f1_macro", "roc_auc_macro", "mcc"})
"""Metrics in which a label of few rows weighs as much as one of many."""


def confidence_intervals(
    task: Task, predictions: Sequence[Prediction], *, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Interval]:
    """The 95 % interval of every metric that `task.statistic` gives.

    The same rows give the same intervals: the draws are seeded. A metric that only some of the rows
    have (of a query, of questions without an answer) rests on these alone; none below two rows.
    """
    import numpy as np

    rows = len(predictions)
    if rows < LEAST_ROWS:
        return {}
    statistic = task.statistic(predictions)
    drawn = resample(statistic, rows, resamples=resamples, seed=seed)
    least = _rows_behind_labels(task, predictions)
    intervals = {}
    for name, value in statistic(np.arange(len(predictions))).items():
        share = share_of_rows(name, predictions)
        rows = _rows_with(name, predictions)
        if rows < LEAST_ROWS:
            continue
        if share is not None:
            known = share[~np.isnan(share)]
            intervals[name] = share_interval(float(known.mean()), len(known))
        elif name in SIGNED:
            spread = quantile(rows) * math.sqrt(_variance(drawn.get(name, []), rows))
            intervals[name] = Interval(value - spread, value + spread)
        elif name in UNBOUNDED:
            intervals[name] = _positive(value, drawn.get(name, []), rows)
        else:
            most = least if name in _BY_LABEL else rows
            intervals[name] = _bounded(name, value, drawn.get(name, []), rows, most)
    return intervals


def _rows_with(name: str, predictions: Sequence[Prediction]) -> int:
    """Of how many rows a metric is: of those that have its value, else of all."""
    some = sum(not math.isnan(p.values.get(name, math.nan)) for p in predictions)
    return some or len(predictions)


def resample(
    statistic: Statistic, rows: int, *, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, list[float]]:
    """Every metric of `statistic` on sets of rows drawn with replacement."""
    import numpy as np

    chance = np.random.default_rng(seed)
    drawn: dict[str, list[float]] = {}
    for _ in range(draws(rows, resamples)):
        for name, value in statistic(chance.integers(0, rows, rows)).items():
            drawn.setdefault(name, []).append(value)
    return drawn


def draws(rows: int, resamples: int) -> int:
    """How many resamples a set of so many rows gets."""
    return max(min(resamples, _MOST_DRAWS // max(rows, 1)), _FEWEST)


def share_interval(share: float, rows: float) -> Interval:
    """The exact interval of a binomial share by mid-p (Lancaster 1961).

    Args:
        share: from 0 to 1.
        rows: of how many; an effective number need not be whole.
    """
    from scipy.optimize import brentq
    from scipy.special import betainc

    right, wrong = share * rows, (1 - share) * rows

    def edge(tail: float) -> float:
        """The share at which more than was seen, and half of that itself, has this probability."""
        seen = brentq(
            lambda p: betainc(right + 1, wrong, p) + betainc(right, wrong + 1, p) - 2 * tail, 0, 1
        )
        return float(seen)

    # Where none or all were right there is nothing beyond on that side.
    return Interval(edge(_TAIL) if right > 0 else 0.0, edge(1 - _TAIL) if wrong > 0 else 1.0)


def _bounded(name: str, value: float, drawn: list[float], rows: int, most: float) -> Interval:
    """The interval of a share that has the metric's variance; `most` bounds its rows."""
    low, high = metric_range(name)
    share = min(max((value - low) / (high - low), 0.0), 1.0)
    variance = _variance(drawn, rows) / (high - low) ** 2
    effective = most
    if variance > _NOTHING and 0 < share < 1:
        effective = share * (1 - share) / variance * _student(rows)
        if name in _BY_LABEL:
            effective = min(effective, most)
    if math.isnan(share):
        return Interval(math.nan, math.nan)
    interval = share_interval(share, max(effective, 1.0))
    return Interval(low + interval.low * (high - low), low + interval.high * (high - low))


def _positive(value: float, drawn: list[float], rows: int) -> Interval:
    import numpy as np

    if not (math.isfinite(value) and value > 0):
        return Interval(value, value)
    with np.errstate(divide="ignore"):
        logs = np.log(np.array(drawn, dtype=float))
    spread = quantile(rows) * math.sqrt(_variance(logs[np.isfinite(logs)].tolist(), rows))
    return Interval(value * math.exp(-spread), value * math.exp(spread))


def _variance(drawn: list[float], rows: int) -> float:
    """Of a metric on `rows` rows; a bootstrap's own is too small by (rows - 1) / rows."""
    import numpy as np

    values = np.array(drawn, dtype=float)
    values = values[np.isfinite(values)]
    return float(values.var() * rows / (rows - 1)) if len(values) > 1 else 0.0


def quantile(rows: int) -> float:
    """Of Student's distribution, as the variance is estimated."""
    from scipy.stats import t

    return float(t.ppf(1 - _TAIL, rows - 1))


def _student(rows: int) -> float:
    from scipy.stats import norm

    return float((norm.ppf(1 - _TAIL) / quantile(rows)) ** 2)


def _rows_behind_labels(task: Task, predictions: Sequence[Prediction]) -> float:
    """Rows that a mean over labels rests on, between all rows and what the rare labels give.

    A label of four rows, all right, shows no variance, which is its smallness and not its quality.
    """
    counts = Counter(label for p in predictions for label in task.labels_in(p.gold)).values()
    if not counts:  # every row is without any label
        return float(len(predictions))
    equal = len(counts) ** 2 / sum(1 / count for count in counts)
    return math.sqrt(equal * len(predictions))
