"""The view of a training job: what it reads off the log, and what it shows where."""

from __future__ import annotations

import io
import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sm_launch.jobs.live import TrainingView, follow_view
from sm_launch.jobs.training import Observation
from sm_launch.report.terminal_chart import braille_chart

START = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
TRANSITIONS: list[dict[str, Any]] = [
    {
        "Status": "Downloading",
        "StartTime": START,
        "EndTime": START + timedelta(seconds=75),
        "StatusMessage": "Downloading input data",
    },
    {"Status": "Training", "StartTime": START + timedelta(seconds=75), "StatusMessage": "Running"},
]
LOG = [
    "loading [the] model HF_TOKEN=hf_" + "aB3" * 10,
    "step=10 epoch=0.5 loss=2.5 grad_norm=1.2",
    "step=20 epoch=1 loss=1.25",
    "step=20 epoch=1 eval_loss=1.5 eval_accuracy=0.5",
    "[algo-1] progress 37% step 120/320 epoch 1.50/4 elapsed 1m02s eta 1m45s",
]


def look(lines: list[str], transitions: list[dict[str, Any]]) -> Observation:
    return Observation("InProgress", "Training", lines, {"SecondaryStatusTransitions": transitions})


def drawn(view: TrainingView) -> str:
    from rich.console import Console

    stream = io.StringIO()
    Console(file=stream, width=80).print(view.render(80))
    return stream.getvalue()


def test_everything_is_in_the_view() -> None:
    view = TrainingView("mine-1")
    assert drawn(view)  # before the first look, too
    assert len(view.feed(look(LOG[:2], TRANSITIONS[:1]))) == 1
    assert view.feed(look(LOG[2:], TRANSITIONS)) == TRANSITIONS[1:]
    assert view.loss == [(10, 2.5), (20, 1.25)]
    assert view.eval_loss == [(20, 1.5)]
    text = drawn(view)
    for phrase in ("mine-1", "Downloading 1m15s › Training", "37%  step 120/320  eta 1m45s",
                  "loss 1.2500   eval loss 1.5000", "2.5 ┤", "loading [the] model"):  # fmt: skip
        assert phrase in text, text
    assert "hf_" not in text
    assert "[redacted]" in text


def test_a_log_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sm_launch.jobs.live.SECONDS_BETWEEN_LOG_LINES", 0.0)
    stream = io.StringIO()
    with follow_view("mine-1", stream) as show:
        show(look(LOG, TRANSITIONS))
        show(look([], TRANSITIONS))
    lines = stream.getvalue().splitlines()
    assert lines[:2] == [
        "03:04:05 Downloading: Downloading input data",
        "03:05:20 Training: Running",
    ]
    assert lines[2:] == ["step 120/320 loss 1.2500 eta 1m45s"]


@pytest.mark.parametrize("seconds", [0.0, 60.0], ids=["each look", "at the end alone"])
def test_a_log_tells_each_step_once(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sm_launch.jobs.live.SECONDS_BETWEEN_LOG_LINES", seconds)
    looks = [
        ["progress 50% step 1/2 epoch 0.50/1 elapsed 2s eta 2s"],
        ["step=1 epoch=0.5 loss=2.5"],
        ["step=1 epoch=0.5 eval_loss=2.25", "saving"],
        [],
        ["step=2 epoch=1 loss=1.5"],
        ["progress 100% step 2/2 epoch 1.00/1 elapsed 4s eta 0s", "step=2 epoch=1 eval_loss=1.25"],
        ["step=2 train_loss=2 train_runtime=4"],
    ]
    stream = io.StringIO()
    with follow_view("mine-1", stream) as show:
        for lines in looks:
            show(look(lines, []))
    told = ["step 1/2 eta 2s", "step 2/2 loss 1.5000"]
    if seconds:
        told = ["step 2/2 loss 1.5000"]
    assert stream.getvalue().splitlines() == told


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_live_view(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    stream = Terminal()
    with follow_view("mine-1", stream) as show:
        show(look(LOG, TRANSITIONS))
    assert "mine-1" in stream.getvalue()
    assert "step 120/320" in stream.getvalue()


def test_a_chart_goes_from_corner_to_corner() -> None:
    falling = braille_chart([(0, 10), (1, 5), (2, 0)], 4, 2)
    assert falling == ["10 ┤⠑⢄⠀⠀", " 0 ┤⠀⠀⠑⢄"]
    flat = braille_chart([(0, 3), (5, 3)], 4, 2)
    assert flat[0].endswith("⠉⠉⠉⠉")
    assert braille_chart([(0, 1), (1, math.nan)], 4, 2) == []
