"""The training report in /opt/ml/output/data: what was logged, as curves in JSON and a picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sm_train.results.metrics import finite_or_none, of_one_label

CURVES = "training_curves.json"
PICTURE = "training_curves.png"
_COLUMNS = 2
_PANEL = (6, 3)
"""Inches of a panel."""
_MOST_PANELS = 12
_NOT_CURVES = ("epoch", "step", "total_flos")
_NOT_CURVES_ENDS = ("runtime", "per_second", "num_tokens")

Points = list[tuple[int, float]]


def curves(history: Sequence[dict[str, Any]]) -> dict[str, Points]:
    """Metric name to its (step, value) pairs, from the trainer's log history."""
    series: dict[str, Points] = {}
    for event in history:
        if any(key == "train_runtime" or key.startswith("test_") for key in event):
            continue
        for key, value in event.items():
            if key in _NOT_CURVES or key.endswith(_NOT_CURVES_ENDS) or of_one_label(key):
                continue
            if isinstance(value, int | float):
                series.setdefault(key, []).append((event["step"], float(value)))
    return series


def write_report(folder: Path, history: Sequence[dict[str, Any]], title: str) -> None:
    """Write the curves as JSON and as a picture."""
    folder.mkdir(parents=True, exist_ok=True)
    series = curves(history)
    plain = {k: [[step, finite_or_none(v)] for step, v in points] for k, points in series.items()}
    (folder / CURVES).write_text(json.dumps(plain) + "\n", encoding="utf-8")
    if series:
        _draw(folder / PICTURE, series, title)


def panels(series: dict[str, Points]) -> list[str]:
    """What gets a picture of its own: loss first; `eval_x` is drawn into the panel of `x`."""
    names = list(dict.fromkeys(name.removeprefix("eval_") for name in series))
    return sorted(names, key=lambda name: (name != "loss", name))[:_MOST_PANELS]


def _draw(path: Path, series: dict[str, Points], title: str) -> None:
    # The object interface: pyplot would look for a display and keep figures.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = panels(series)
    rows = -(-len(names) // _COLUMNS)
    height = _PANEL[1] * rows
    figure = Figure(figsize=(_PANEL[0] * _COLUMNS, height))
    FigureCanvasAgg(figure)
    # Margins in inches: a layout that looks for them draws everything twice.
    figure.subplots_adjust(
        left=0.06, right=0.98, bottom=0.5 / height, top=1 - 0.8 / height, wspace=0.2, hspace=0.45
    )
    figure.suptitle(title, y=1 - 0.15 / height, va="top")
    for index, name in enumerate(names, start=1):
        axes = figure.add_subplot(rows, _COLUMNS, index)
        for key, label in ((name, "train"), (f"eval_{name}", "validation")):
            if key in series:
                steps, values = zip(*series[key], strict=True)
                axes.plot(steps, values, label=label, marker="." if len(steps) < 50 else None)
        axes.set_title(name, fontsize=10)
        axes.set_xlabel("step", fontsize=8)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.savefig(path, dpi=100)
