"""Gates for pipelines: an evaluation passes only when its metrics reach the demanded values."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

from sm_launch.errors import QualityGateError, UserInputError
from sm_launch.evaluation.result import EvaluationResult

ALIASES = {name: f"{name}_macro" for name in ("precision", "recall", "f1", "roc_auc")}
"""Short names mean the macro average, which does not hide a weak rare class."""

_ROUNDING = 1e-9
"""What arithmetic may take from a metric that is exactly at its limit."""


@dataclass(frozen=True)
class GateResult:
    """One gate: the metric's value, and whether it is on the right side of the limit.

    The limit is the least value that passes, or with `at_most` the greatest.
    """

    metric: str
    limit: float
    value: float
    at_most: bool = False

    @property
    def passed(self) -> bool:
        # A mean of 0.1, 0.2 and 0.3 is a hair off 0.2; a NaN metric passes no gate.
        if math.isclose(self.value, self.limit, rel_tol=_ROUNDING, abs_tol=_ROUNDING):
            return True
        return self.value <= self.limit if self.at_most else self.value >= self.limit

    def __str__(self) -> str:
        good, bad = ("<=", ">") if self.at_most else (">=", "<")
        sign, verdict = (good, "passed") if self.passed else (bad, "failed")
        shown = f"{self.value:.4f}"
        if not self.passed and float(shown) == self.limit:
            shown = f"{self.value:.8g}"  # the digit that decides
        return f"{self.metric} = {shown} {sign} {self.limit:g}: {verdict}"


def parse_gates(specifications: Iterable[str], *, field: str = "fail_under") -> dict[str, float]:
    """`["f1=0.85", "recall[negative]=0.8"]` as a mapping of metric to limit.

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
                field=field,
                value=text,
                fix="write for instance f1=0.85",
            )
        gates[metric.strip()] = minimum
    return gates


def available_metrics(result: EvaluationResult) -> dict[str, float]:
    """All metrics a gate can name.

    The summary's, aliases, per class such as `f1[spam]`, per slice such as `accuracy[lang=de]`, and
    `latency_p95_ms` and the like; with a load test `load_requests_per_s`.
    """
    if result.metrics is None:
        return {}
    values = dict(result.metrics.summary)
    values.update({alias: values[name] for alias, name in ALIASES.items() if name in values})
    for part in result.slices:
        for name, value in part.metrics.items():
            values[f"{name}[{part.column}={part.value}]"] = value
    if result.latency is not None:
        for name in ("mean_ms", "p50_ms", "p90_ms", "p95_ms", "p99_ms"):
            values[f"latency_{name}"] = getattr(result.latency, name)
    if result.throughput is not None:
        values["rows_per_s"] = result.throughput.rows_per_s
    if result.load is not None:
        best = result.load.best
        values["load_requests_per_s"] = best.requests_per_s if best else 0.0
    for entry in result.metrics.per_class:
        for name in ("precision", "recall", "f1"):
            values[f"{name}[{entry.label}]"] = getattr(entry, name)
    return values


def check_gates(
    result: EvaluationResult,
    fail_under: Mapping[str, float],
    fail_over: Mapping[str, float] | None = None,
) -> list[GateResult]:
    """The outcome of each gate, in the order given.

    Raises:
        UserInputError: a metric that this evaluation does not have.
    """
    values = available_metrics(result)
    outcomes = []
    for field, gates in (("fail_under", fail_under), ("fail_over", fail_over or {})):
        for metric, limit in gates.items():
            if metric not in values:
                raise _unknown(metric, values, field)
            outcomes.append(GateResult(metric, limit, values[metric], field == "fail_over"))
    return outcomes


def _unknown(metric: str, values: Mapping[str, float], field: str) -> UserInputError:
    close = difflib.get_close_matches(metric, values, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    return UserInputError(
        "the evaluation has no such metric",
        field=field,
        value=metric,
        fix=f"{hint}Known: {', '.join(sorted(values)) or 'none, as no row was evaluated'}",
    )


def gate_dict(gate: GateResult) -> dict[str, object]:
    """For JSON."""
    return {**asdict(gate), "passed": gate.passed}


def require_gates(outcomes: Iterable[GateResult], result: EvaluationResult) -> None:
    """Raises QualityGateError when a gate failed, naming every one that did, with the result."""
    failed = [str(outcome) for outcome in outcomes if not outcome.passed]
    if failed:
        raise QualityGateError(
            f"the model does not reach the demanded quality: {'; '.join(failed)}",
            field="fail_under",
            fix="look at the report for where it is weak, or move the gate",
            result=result,
        )
