"""Gates for pipelines: an evaluation passes only when its metrics reach the demanded values."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sm_launch.errors import QualityGateError, UserInputError
from sm_launch.evaluation.result import EvaluationResult

ALIASES = {name: f"{name}_macro" for name in ("precision", "recall", "f1", "roc_auc")}
"""Short names mean the macro average, which does not hide a weak rare class."""


@dataclass(frozen=True)
class GateResult:
    """One gate: the metric's value, and whether it reached the demanded minimum."""

    metric: str
    minimum: float
    value: float

    @property
    def passed(self) -> bool:
        # A NaN metric reaches nothing.
        return self.value >= self.minimum

    def __str__(self) -> str:
        sign, verdict = (">=", "passed") if self.passed else ("<", "failed")
        return f"{self.metric} = {self.value:.4f} {sign} {self.minimum:g}: {verdict}"


def parse_gates(specifications: Iterable[str]) -> dict[str, float]:
    """`["f1=0.85", "recall[negative]=0.8"]` as a mapping of metric to minimum.

    Raises:
        UserInputError: not of the form metric=number.
    """
    gates: dict[str, float] = {}
    for text in specifications:
        metric, sign, number = text.rpartition("=")
        try:
            minimum = float(number)
        except ValueError:
            minimum = math.nan
        if not sign or not metric.strip() or math.isnan(minimum):
            raise UserInputError(
                "a gate is a metric, an equals sign and a number",
                field="fail_under",
                value=text,
                fix="write for instance f1=0.85",
            )
        gates[metric.strip()] = minimum
    return gates


def available_metrics(result: EvaluationResult) -> dict[str, float]:
    """All metrics a gate can name: the summary's, aliases, and per class such as `f1[spam]`."""
    if result.metrics is None:
        return {}
    values = dict(result.metrics.summary)
    values.update({alias: values[name] for alias, name in ALIASES.items() if name in values})
    for entry in result.metrics.per_class:
        for name in ("precision", "recall", "f1"):
            values[f"{name}[{entry.label}]"] = getattr(entry, name)
    return values


def check_gates(result: EvaluationResult, gates: Mapping[str, float]) -> list[GateResult]:
    """The outcome of each gate, in the order given.

    Raises:
        UserInputError: a metric that this evaluation does not have.
    """
    values = available_metrics(result)
    outcomes = []
    for metric, minimum in gates.items():
        if metric not in values:
            close = difflib.get_close_matches(metric, values, n=1)
            hint = f"did you mean {close[0]}? " if close else ""
            raise UserInputError(
                "the evaluation has no such metric",
                field="fail_under",
                value=metric,
                fix=f"{hint}Known: {', '.join(sorted(values)) or 'none, as no row was evaluated'}",
            )
        outcomes.append(GateResult(metric, minimum, values[metric]))
    return outcomes


def require_gates(outcomes: Iterable[GateResult]) -> None:
    """Raises QualityGateError when a gate failed, naming every one that did."""
    failed = [str(outcome) for outcome in outcomes if not outcome.passed]
    if failed:
        raise QualityGateError(
            f"the model does not reach the demanded quality: {'; '.join(failed)}",
            field="fail_under",
            fix="look at the report for the weak classes, or lower the gate",
        )
