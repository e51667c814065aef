"""What other steps left behind for the report: the training log and the data manifest."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sm_launch import json_lines
from sm_launch.report.charts import Series

NOT_QUALITY = ("loss", "runtime", "per_second", "num_tokens", "entropy")
"""Parts of the names of eval_* values that are no measure of quality."""


def read_training_log(path: Path) -> list[dict[str, Any]]:
    """The events of training_log.jsonl; a last line that a kill cut off is left out."""
    events = []
    for line in json_lines.lines(path):
        try:
            event = json.loads(line.text)
        except ValueError:
            continue
        if isinstance(event, dict):
            events.append(event)
    return events


def read_manifest(path: Path) -> dict[str, Any]:
    """manifest.json of `sm-launch data prepare`."""
    document = json.loads(path.read_text(encoding="utf-8"))
    return document if isinstance(document, dict) else {}


def curve(events: Iterable[Mapping[str, Any]], key: str, name: str) -> Series:
    """The values of `key` over the optimizer steps, where it was logged."""
    points = [
        (float(event["step"]), float(event[key]))
        for event in events
        if _is_number(event.get("step")) and _is_number(event.get(key))
    ]
    return Series(name, points)


def loss_curves(events: Sequence[Mapping[str, Any]]) -> list[Series]:
    return [curve(events, "loss", "training"), curve(events, "eval_loss", "validation")]


def quality_curves(events: Sequence[Mapping[str, Any]]) -> list[Series]:
    """Validation metrics, accuracy and F1 first."""
    keys = {
        key
        for event in events
        for key in event
        if key.startswith("eval_") and not any(part in key for part in NOT_QUALITY)
    }
    first = [key for key in ("eval_accuracy", "eval_f1", "eval_f1_macro") if key in keys]
    ordered = first + sorted(keys.difference(first))
    return [curve(events, key, key.removeprefix("eval_").replace("_", " ")) for key in ordered]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
