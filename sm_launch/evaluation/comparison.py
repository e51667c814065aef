"""Two models on the same rows: how much they differ, and whether that could be chance."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from sm_launch.errors import UserInputError
from sm_launch.evaluation.intervals import LEAST_ROWS, RESAMPLES
from sm_launch.evaluation.likelihood import LOG_LIKELIHOOD
from sm_launch.evaluation.paired import holm, paired_differences
from sm_launch.evaluation.result import Interval, Prediction
from sm_launch.evaluation.scales import LOWER_IS_BETTER, SIGNED, UNBOUNDED
from sm_launch.evaluation.task import Task

SIGNIFICANT = 0.05
LEAST_SHARED = 0.8
"""Of the rows of either model: what fails is seldom chance, and the rest is another data set."""


@dataclass(frozen=True)
class MetricDifference:
    """One metric of both models; the difference is second minus first."""

    metric: str
    first: float
    second: float
    difference: float
    interval: Interval
    """95 % interval of the difference."""
    p_value: float
    """Two-sided: how often a difference this clear would come about with equal models."""
    p_adjusted: float
    """The same, corrected for all metrics that are compared at once (Holm)."""
    rows: int = 0
    """Rows on which both models have it; the others count for neither."""

    @property
    def significant(self) -> bool:
        return self.p_adjusted < SIGNIFICANT

    @property
    def improved(self) -> bool:
        """Whether the second model is the better one."""
        return self.difference < 0 if self.metric in LOWER_IS_BETTER else self.difference > 0


@dataclass(frozen=True)
class McNemar:
    """Rows that one model alone got right; the p-value is of the exact test."""

    both: int
    only_first: int
    only_second: int
    neither: int
    p_value: float


@dataclass(frozen=True, repr=False)
class Comparison:
    """The outcome of `compare`."""

    first: str
    second: str
    task: str
    rows: int
    only_one_answered: int
    """Rows that one model has no prediction for; they count in nothing here."""
    metrics: tuple[MetricDifference, ...]
    mcnemar: McNemar
    lost: tuple[tuple[Prediction, Prediction], ...] = field(repr=False, default=())
    """Rows that the first model got right and the second does not."""
    won: tuple[tuple[Prediction, Prediction], ...] = field(repr=False, default=())
    """The other way round."""
    only_one_has: Mapping[str, int] = field(default_factory=dict)
    """For each value or metric the shared rows that have it of one model only."""

    def __repr__(self) -> str:
        changes = ", ".join(f"{m.metric} {m.difference:+.4f}" for m in self.metrics[:3])
        names = f"{self.first} and {self.second}"
        return f"<Comparison of {names} on {self.rows} rows: {changes}>"

    def left_out(self) -> list[str]:
        """What counts for neither model, in words."""
        lines = []
        if self.only_one_answered:
            rows = f"{self.only_one_answered:,} rows were answered by one model only"
            lines.append(f"{rows}, and count for neither")
        for name, rows_of_one in self.only_one_has.items():
            of = f"{rows_of_one:,} of {self.rows:,} rows have it of one model only"
            none = "one of the two has none, so it is not compared"
            lines.append(f"{name}: {of if rows_of_one < self.rows else none}")
        return lines

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "first": self.first,
            "second": self.second,
            "task": self.task,
            "rows": self.rows,
            "only_one_answered": self.only_one_answered,
            "only_one_has": dict(self.only_one_has),
            "metrics": {
                m.metric: {
                    "first": m.first,
                    "second": m.second,
                    "difference": m.difference,
                    "interval": [m.interval.low, m.interval.high],
                    "p_value": m.p_value,
                    "p_adjusted": m.p_adjusted,
                    "significant": m.significant,
                    "improved": m.improved,
                    "rows": m.rows,
                }
                for m in self.metrics
            },
            "mcnemar": asdict(self.mcnemar),
            "lost": [p.index for p, _ in self.lost],
            "won": [p.index for p, _ in self.won],
        }


def compare(
    first: Sequence[Prediction],
    second: Sequence[Prediction],
    task: Task,
    *,
    names: tuple[str, str] = ("first", "second"),
    resamples: int = RESAMPLES,
    seed: int = 0,
    min_shared: float = LEAST_SHARED,
) -> Comparison:
    """Compare two models on the rows that both answered.

    A value that one of them lacks on a row (a grade, a likelihood) is left out for both.

    Args:
        first: predictions of one model.
        second: predictions of the other.
        task: the task of both.
        names: what to call them.
        resamples: draws of the bootstrap.
        seed: of the draws.
        min_shared: share of the rows of either (0 to 1) that both must have answered.

    Raises:
        UserInputError: the predictions are of different rows, or too many are of one model only.
    """
    pairs, alone = _pair(first, second, min_shared)
    pairs, lacking = _same_values(pairs, task)
    one, other = [a for a, _ in pairs], [b for _, b in pairs]
    return Comparison(
        first=names[0],
        second=names[1],
        task=task.name,
        rows=len(pairs),
        only_one_answered=alone,
        metrics=tuple(_differences(one, other, task, resamples, seed, lacking)),
        mcnemar=_mcnemar(pairs),
        lost=tuple((a, b) for a, b in pairs if a.correct and not b.correct),
        won=tuple((a, b) for a, b in pairs if b.correct and not a.correct),
        only_one_has=lacking,
    )


def _pair(
    first: Sequence[Prediction], second: Sequence[Prediction], min_shared: float
) -> tuple[list[tuple[Prediction, Prediction]], int]:
    one, other = (
        {(p.index, p.text, p.gold): p for p in predictions} for predictions in (first, second)
    )
    shared = sorted(one.keys() & other.keys())
    alone = len(one) + len(other) - 2 * len(shared)
    if len(shared) < LEAST_ROWS or len(shared) < min_shared * (len(shared) + alone):
        raise UserInputError(
            f"the two sets of predictions share {len(shared)} rows, and {alone} stand in one only; "
            f"both must have answered {min_shared:.0%}",
            field="predictions",
            fix="evaluate both models on the same held-out data, or mend the rows that failed; "
            "a smaller share is allowed by --min-shared",
        )
    return [(one[key], other[key]) for key in shared], alone


def _same_values(
    pairs: Sequence[tuple[Prediction, Prediction]], task: Task
) -> tuple[list[tuple[Prediction, Prediction]], dict[str, int]]:
    """The pairs without the values that one of them lacks, and how many lacked which."""
    kept: list[tuple[Prediction, Prediction]] = []
    lacking: Counter[str] = Counter()
    for a, b in pairs:
        has = [{n for n, value in p.values.items() if not math.isnan(value)} for p in (a, b)]
        alone = {name for name in has[0] ^ has[1] if task.may_lack(name)}
        lacking.update(alone)
        kept.append((_without(a, alone), _without(b, alone)) if alone else (a, b))
    return kept, dict(lacking)


def _without(prediction: Prediction, names: set[str]) -> Prediction:
    values = {name: value for name, value in prediction.values.items() if name not in names}
    return replace(prediction, values=values)


def _differences(
    one: Sequence[Prediction],
    other: Sequence[Prediction],
    task: Task,
    resamples: int,
    seed: int,
    lacking: dict[str, int],
) -> list[MetricDifference]:
    import numpy as np

    everything = np.arange(len(one))
    a, b = task.statistic(one)(everything), task.statistic(other)(everything)
    lacking.update(dict.fromkeys(a.keys() ^ b.keys(), len(one)))
    differences = paired_differences(one, other, task, resamples=resamples, seed=seed)
    adjusted = holm({name: each.p_value for name, each in differences.items()})
    return [
        MetricDifference(
            name,
            each.first,
            each.second,
            each.second - each.first,
            each.interval,
            each.p_value,
            adjusted[name],
            _rows_with(name, one),
        )
        for name, each in differences.items()
    ]


def _rows_with(name: str, predictions: Sequence[Prediction]) -> int:
    """Rows that a metric is made of: all, unless it is the mean of a value that some lack."""
    value = LOG_LIKELIHOOD if name in UNBOUNDED - SIGNED else name
    return sum(value in p.values for p in predictions) or len(predictions)


def _mcnemar(pairs: Sequence[tuple[Prediction, Prediction]]) -> McNemar:
    from scipy.stats import binomtest

    only_first = sum(a.correct and not b.correct for a, b in pairs)
    only_second = sum(b.correct and not a.correct for a, b in pairs)
    both = sum(a.correct and b.correct for a, b in pairs)
    differ = only_first + only_second
    p_value = float(binomtest(only_first, differ, 0.5).pvalue) if differ else 1.0
    return McNemar(both, only_first, only_second, len(pairs) - both - differ, p_value)
