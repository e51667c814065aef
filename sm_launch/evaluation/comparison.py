"""Two models on the same rows: how much they differ, and whether that could be chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from sm_launch.errors import UserInputError
from sm_launch.evaluation.intervals import LEAST_ROWS, RESAMPLES
from sm_launch.evaluation.paired import holm, paired_differences
from sm_launch.evaluation.result import Interval, Prediction
from sm_launch.evaluation.scales import LOWER_IS_BETTER
from sm_launch.evaluation.task import Task

SIGNIFICANT = 0.05


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


@dataclass(frozen=True)
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

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "first": self.first,
            "second": self.second,
            "task": self.task,
            "rows": self.rows,
            "only_one_answered": self.only_one_answered,
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
) -> Comparison:
    """Compare two models on the rows that both answered.

    Raises:
        UserInputError: the predictions are of different rows.
    """
    pairs, alone = _pair(first, second)
    one, other = [a for a, _ in pairs], [b for _, b in pairs]
    return Comparison(
        first=names[0],
        second=names[1],
        task=task.name,
        rows=len(pairs),
        only_one_answered=alone,
        metrics=tuple(_differences(one, other, task, resamples, seed)),
        mcnemar=_mcnemar(pairs),
        lost=tuple((a, b) for a, b in pairs if a.correct and not b.correct),
        won=tuple((a, b) for a, b in pairs if b.correct and not a.correct),
    )


def _pair(
    first: Sequence[Prediction], second: Sequence[Prediction]
) -> tuple[list[tuple[Prediction, Prediction]], int]:
    one, other = ({(p.index, p.text, p.gold): p for p in found} for found in (first, second))
    shared = sorted(one.keys() & other.keys())
    alone = len(one) + len(other) - 2 * len(shared)
    if len(shared) < LEAST_ROWS or alone > len(shared):
        raise UserInputError(
            f"the two sets of predictions share {len(shared)} rows, and {alone} stand in one only",
            field="predictions",
            fix="evaluate both models on the same held-out data",
        )
    return [(one[key], other[key]) for key in shared], alone


def _differences(
    one: Sequence[Prediction],
    other: Sequence[Prediction],
    task: Task,
    resamples: int,
    seed: int,
) -> list[MetricDifference]:
    found = paired_differences(one, other, task, resamples=resamples, seed=seed)
    adjusted = holm({name: each.p_value for name, each in found.items()})
    return [
        MetricDifference(
            name,
            each.first,
            each.second,
            each.second - each.first,
            each.interval,
            each.p_value,
            adjusted[name],
        )
        for name, each in found.items()
    ]


def _mcnemar(pairs: Sequence[tuple[Prediction, Prediction]]) -> McNemar:
    from scipy.stats import binomtest

    only_first = sum(a.correct and not b.correct for a, b in pairs)
    only_second = sum(b.correct and not a.correct for a, b in pairs)
    both = sum(a.correct and b.correct for a, b in pairs)
    differ = only_first + only_second
    p_value = float(binomtest(only_first, differ, 0.5).pvalue) if differ else 1.0
    return McNemar(both, only_first, only_second, len(pairs) - both - differ, p_value)
