"""An evaluation beside what training measured on the same test rows."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sm_launch.evaluation.artefact import Artefact
from sm_launch.evaluation.result import EvaluationResult
from sm_launch.evaluation.scales import UNBOUNDED

_OTHERWISE_MEASURED = ("loss", "perplexity")
"""Training counts the end of the text among the answer's tokens, and its own template's."""
_ROUNDING = 1e-6


def files_sha256(files: list[Path]) -> str:
    """Of the files' own sha256 digests, in order: as `eval_results.json` names the test rows."""
    whole = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            whole.update(hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()


def beside_training(result: EvaluationResult, artefact: Artefact, sha256: str) -> EvaluationResult:
    """The result with training's figures and, where the two contradict, a warning for each.

    Args:
        result: an evaluation of the artefact.
        artefact: with the scores of training.
        sha256: of the evaluated files; see `files_sha256`.
    """
    if not sha256 or artefact.results.get("test_sha256") != sha256 or result.metrics is None:
        return result
    measured = {
        name: float(value)
        for name in result.metrics.summary
        if name not in _OTHERWISE_MEASURED
        and isinstance(value := artefact.results.get(f"test_{name}"), int | float)
    }
    warnings = [
        f"{name} is {result.metrics.summary[name]:.4f} here, and training measured {value:.4f} on "
        "the same test rows, which is beyond the interval: the model is asked in another way, or "
        "is another one"
        for name, value in measured.items()
        if _contradicts(name, value, result)
    ]
    return replace(result, training=measured, warnings=(*warnings, *result.warnings))


def _contradicts(name: str, value: float, result: EvaluationResult) -> bool:
    summary: Mapping[str, float] = result.metrics.summary if result.metrics else {}
    # One row more or less may be rounding: another batch, another order of additions.
    slack = abs(value) / 100 if name in UNBOUNDED else 1 / max(len(result.predictions), 1)
    if abs(summary[name] - value) <= slack + _ROUNDING:
        return False
    interval: Any = result.intervals.get(name)
    return interval is None or not interval.low <= value <= interval.high
