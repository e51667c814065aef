"""Two models on the same held-out rows: the figures of both, and whether the second will do."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sm_train.errors import UserError
from sm_train.results.export import card_metadata
from sm_train.results.metrics import finite_or_none
from sm_train.settings.settings import Method

_LOWER_IS_BETTER = ("loss", "mse", "mae", "perplexity")
_NO_QUALITY = ("runtime", "_per_second", "epoch", "entropy", "num_tokens", "model_preparation_time")
_PREFIX = "test_"
_LABELS = {
    "bytes": ("size, MB", 1e6, 1),
    "memory_bytes": ("memory, MB", 1e6, 1),
    "latency_p50_ms": ("latency p50, ms", 1.0, 2),
    "latency_p99_ms": ("latency p99, ms", 1.0, 2),
    "texts_per_second": ("throughput, texts/s", 1.0, 1),
}

Figures = Mapping[str, float]


@dataclass(frozen=True)
class Proof:
    """What both models measured.

    Attributes:
        precision: of the second model.
        how: it was made, in words.
        metric: what decides.
        max_drop: by how much it may be worse.
        split: which rows; rows: how many.
        before: figures of the first model.
        after: of the second.
        processor: that both ran on; threads: how many of it.
    """

    precision: str
    how: str
    metric: str
    max_drop: float
    split: str
    rows: int
    before: Figures
    after: Figures
    processor: str
    threads: int

    @property
    def drop(self) -> float:
        """By how much the second model is worse; negative where it is better."""
        change = self.after[self.metric] - self.before[self.metric]
        return change if _is_lower_better(self.metric) else -change

    def require(self) -> None:
        """Raise UserError where it is worse than allowed, or answers with what is no number."""
        if self.drop <= self.max_drop:  # false for what is no number
            return
        raise UserError(
            f"the optimized model is not as good: {self.metric} was "
            f"{self.before[self.metric]:.4f} and is {self.after[self.metric]:.4f} on {self.rows} "
            f"rows of {self.split}, a drop of {self.drop:.4f}; nothing was exported",
            field="max_drop",
            value=self.max_drop,
            fix="keep the model as it is, try another precision, or allow for more",
        )

    def lines(self) -> list[list[str]]:
        """The table: each figure's name, before, after, and the change."""
        table = [["", "before", "after", "change"]]
        for name in self.before:
            label, unit, digits = _LABELS.get(name, (name, 1.0, 4))
            first, second = self.before[name] / unit, self.after[name] / unit
            change = f"{second - first:+.4f}"
            if name in _LABELS:
                change = f"x {second / first:.2f}" if first else ""
            table.append([label, f"{first:.{digits}f}", f"{second:.{digits}f}", change])
        return table

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        document = {**asdict(self), "drop": finite_or_none(self.drop)}
        for side in ("before", "after"):
            document[side] = {name: finite_or_none(value) for name, value in document[side].items()}
        return document


def _is_lower_better(metric: str) -> bool:
    return metric.endswith(_LOWER_IS_BETTER)


def qualities(results: Figures) -> dict[str, float]:
    """What an evaluation says of the answers, without the prefix and without its speed."""
    names = (name for name in results if name.startswith(_PREFIX))
    return {
        name.removeprefix(_PREFIX): results[name]
        for name in names
        if not name.endswith(_NO_QUALITY)
    }


def deciding(method: Method[Any], asked: str | None, known: Figures) -> str:
    """The metric that decides. Raises UserError for one that the rows do not have."""
    named = [asked] if asked else method.judged_by
    for name in named:
        if name in known:
            return name
    raise UserError(
        "is not measured on these rows",
        field="metric",
        value=asked,
        fix=f"choose one of {', '.join(sorted(known))}",
    )


def text_table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table for a log."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def card(proof: Proof, method: Method[Any], name: str, former: str) -> str:
    """README.md: what it was made from and how, both models' figures, then the former card."""
    head, *rows = proof.lines()
    results = {f"{_PREFIX}{key}": value for key, value in qualities_of(proof).items()}
    body = [
        "# Optimized for serving",
        "",
        f"{proof.how} `{proof.metric}` decides: at most {proof.max_drop:g} less was allowed, on "
        f"{proof.rows} rows of the {proof.split} channel. {_measured(proof)}".strip(),
        "",
        f"| {' | '.join(head)} |",
        "|---|--:|--:|--:|",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
        "## The model it was made from",
        "",
        _without_metadata(former) or "It had no model card.",
        "",
    ]
    return "\n".join(["---", card_metadata(method, None, name, results), "---", "", *body])


def _measured(proof: Proof) -> str:
    if "latency_p50_ms" not in proof.before:
        return ""
    return f"Measured on {proof.processor}, {proof.threads} threads, in turns."


def qualities_of(proof: Proof) -> dict[str, float]:
    """The second model's metrics, without its size and speed."""
    return {name: value for name, value in proof.after.items() if name not in _LABELS}


def _without_metadata(former: str) -> str:
    """A card's text; its headings go one level down."""
    text = former.split("---\n", 2)[2] if former.startswith("---\n") else former
    lines = (f"#{line}" if line.startswith("#") else line for line in text.splitlines())
    return "\n".join(lines).strip()


def processor() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())


def as_results(proof: Proof, identity: Mapping[str, Any]) -> dict[str, Any]:
    """eval_results.json of the new artefact, as training would have written it."""
    prefix = _PREFIX if proof.split == "test" else "eval_"
    return {f"{prefix}{name}": value for name, value in qualities_of(proof).items()} | dict(
        identity
    )
