"""Reports of odd content as a browser draws them: nothing cut off, no text over another.

A report has no script: a page of ours holds it in a frame as wide as a screen, and looks at the
boxes.
"""

from __future__ import annotations

import csv
import html
import json
import math
import re
import shutil
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import sm_launch
from sm_launch.evaluation import (
    EvaluationResult,
    Prediction,
    RowFailure,
    RunInfo,
    check_gates,
    compare,
    make_task,
)
from sm_launch.evaluation.calibration import calibrate
from sm_launch.evaluation.intervals import confidence_intervals
from sm_launch.evaluation.latency import latency_stats
from sm_launch.evaluation.metrics import classification_metrics
from sm_launch.evaluation.report import render_report
from sm_launch.evaluation.report.comparison import render_comparison
from sm_launch.job.monitoring import Monitoring
from sm_launch.monitoring import drift
from sm_launch.monitoring.report import write_monitoring
from sm_launch.monitoring.series import VariantSeries

BROWSER = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="chromium is not installed: nothing draws the page"),
]
LONG = [f"customer-service/{name}" for name in ("access for all", "app is slow", "billing", "café")]
MANY = [*LONG, *(f"customer-service/department {i}/other" for i in range(34)),
        "الشكاوى والاقتراحات حول الخدمة", "お問い合わせの種類が分からない場合"]  # fmt: skip
RIGHT_TO_LEFT = ["إيجابي", "سلبي"]
PATH = (
    "file:///home/somebody/projects/2030/build/reviews/jobs/reviews-20300101-1/output/model.tar.gz"
)
LOOK = """
function look(frame) {
  const page = frame.contentDocument, width = frame.clientWidth, problems = [];
  const cut = s => (s || '').trim().slice(0, 60);
  if (page.documentElement.scrollWidth > width + 1)
    problems.push(`wider than the screen: ${page.documentElement.scrollWidth}`);
  for (const box of page.querySelectorAll('.scroll, .tile, section, header'))
    if (box.scrollWidth > box.clientWidth + 1) problems.push(`cut off: ${cut(box.textContent)}`);
  for (const drawing of page.querySelectorAll('svg')) {
    const all = drawing.getBoundingClientRect();
    const texts = [...drawing.querySelectorAll('text')].map(
      text => [cut(text.textContent), text.getBoundingClientRect()]);
    texts.forEach(([name, box], i) => {
      if (box.left < all.left - 1 || box.right > all.right + 1 || box.bottom > all.bottom + 2)
        problems.push(`outside its chart: ${name}`);
      for (const [other, next] of texts.slice(i + 1)) {
        const across = Math.min(box.right, next.right) - Math.max(box.left, next.left);
        const down = Math.min(box.bottom, next.bottom) - Math.max(box.top, next.top);
        if (across > 1.5 && down > 0.35 * Math.min(box.height, next.height))
          problems.push(`over each other: ${name} / ${other}`);
      }
    });
  }
  return problems;
}
addEventListener('load', () => {
  const problems = [...document.querySelectorAll('iframe')].flatMap(
    frame => look(frame).map(said => `${frame.clientWidth}: ${said}`));
  document.body.replaceChildren(JSON.stringify(problems));
});
"""


def seen_in_browser(page: str, directory: Path) -> list[str]:
    """What is wrong with a page on a phone and on a laptop."""
    frames = "".join(
        f'<iframe style="border:0;width:{width}px" srcdoc="{html.escape(page)}"></iframe>'
        for width in (390, 1280)
    )
    host = directory / "host.html"
    host.write_text(f"<!doctype html><meta charset=utf-8><body>{frames}<script>{LOOK}</script>")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=1800,1000"]
    profile = f"--user-data-dir={directory / 'profile'}"
    command = [str(BROWSER), *options, profile, "--dump-dom", host.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    said = re.search(r"<body>(.*)</body>", done.stdout, re.DOTALL)
    assert said, done.stderr[-2000:]
    problems: list[str] = json.loads(html.unescape(said[1]))
    return problems


def predictions(labels: list[str], rows: int, *, perfect: bool = False) -> list[Prediction]:
    return [
        Prediction(
            i,
            f"{labels[i % len(labels)]} 9, نص طويل {i} 🙂 " + "unbreakable" * 9,
            labels[i % len(labels)],
            labels[i % len(labels) if perfect or i % 3 else (i + 1) % len(labels)],
            {label: 1 / len(labels) for label in labels},
        )
        for i in range(rows)
    ]


def result(labels: list[str], rows: int, *, perfect: bool = False) -> EvaluationResult:
    given = predictions(labels, rows, perfect=perfect)
    task = make_task("text-classification")
    latency = [0.2 + i / 1000 for i in range(rows)]
    return EvaluationResult(
        rows_total=rows,
        predictions=tuple(given),
        failures=(RowFailure(7, "no answer: " + "x" * 200, 400),) if rows > 1 else (),
        metrics=classification_metrics(given),
        latency=latency_stats(latency, keep_samples=True),
        throughput=None,
        retries=0,
        started_at="2030-01-01T00:00:00+00:00",
        duration_s=2.0,
        warnings=(f"classes that occur seldom say little: {labels!r}",),
        info=RunInfo(endpoint=PATH, data="/a/long/path/" * 9, command=f"evaluate {PATH}"),
        intervals=confidence_intervals(task, given),
        calibration=calibrate(given),
    )


EVENTS: list[dict[str, Any]] = [
    {"step": 1, "loss": 1e-7, "learning_rate": 0.0, "eval_f1": 0.5, "eval_f1_macro": 0.5},
    {"step": 2, "loss": math.nan, "learning_rate": 1e-12, "eval_accuracy": 1.0, "eval_a": 0.1},
    {"step": 3, "loss": 12345.678, "learning_rate": 2e-5, "eval_b": 0.2, "eval_c": 0.3,
     "eval_d": 0.4, "eval_loss": math.inf},
]  # fmt: skip


@pytest.mark.parametrize(
    ("labels", "rows", "perfect"),
    [(MANY, 120, False), (RIGHT_TO_LEFT, 20, False), (LONG, 40, True), (["good", "bad"], 1, True)],
    ids=["many", "right-to-left", "perfect", "one-row"],
)
def test_an_evaluation(labels: list[str], rows: int, perfect: bool, tmp_path: Path) -> None:
    split = {"rows": 9, "sha256": "ab" * 32, "labels": dict.fromkeys(labels, 2), "characters": {}}
    manifest = {"labels": labels, "splits": {"train": split, "test": split}, "counts": {"read": 9},
                "rejected": {"missing_text": 3}}  # fmt: skip
    measured = result(labels, rows, perfect=perfect)
    gates = check_gates(measured, {f"recall[{labels[0]}]": 0.5})
    page = render_report(measured, gates, EVENTS, manifest)
    assert seen_in_browser(page, tmp_path) == []
    for said in ("2 value(s) are NaN or infinite", "f1 = f1 macro", "Not drawn: c, d."):
        assert said in page


def test_an_evaluation_without_an_answer(tmp_path: Path) -> None:
    none = replace(result(LONG, 2), predictions=(), metrics=None, latency=None, intervals={},
                   calibration=())  # fmt: skip
    assert seen_in_browser(render_report(none), tmp_path) == []


def test_a_comparison(tmp_path: Path) -> None:
    task = make_task("text-classification")
    names = ("reviews-of-customers-in-all-languages-large-2030-01-01-seed-1", PATH)
    both = predictions(LONG, 60), predictions(LONG, 60, perfect=True)
    page = render_comparison(compare(*both, task, names=names), names)
    assert seen_in_browser(page, tmp_path) == []


@pytest.mark.parametrize("minutes", [0.1, 60, 20_000])
def test_monitoring(minutes: float, tmp_path: Path) -> None:
    series = VariantSeries("AllTraffic")
    for point in range(20):
        series.add(
            datetime(2030, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes * point / 20),
            {"invocations": 1234567.0 * point, "errors_4xx": 1.0, "errors_5xx": 0.0,
             "throughput": 0.01, "error_rate": point / 4, "model_p50": 1.0, "model_p90": 9.0,
             "model_p99": 10.0 * point,
             "cpu": 99.0, "memory": 91.0, "disk": 20.0},
        )  # fmt: skip
    labels = drift.compare_labels(dict.fromkeys(MANY, 9), {MANY[0]: 99}, 0.2)
    assert labels is not None
    path = tmp_path / "report.html"
    write_monitoring("a-name-as-long-as-an-endpoint-may-have-it-in-any-region-of-aws", [series],
                     [labels], ["model latency p99 was above"], path, source="CloudWatch",
                     limits=Monitoring(error_percent=1, latency_p99_ms=150))  # fmt: skip
    assert seen_in_browser(path.read_text(), tmp_path) == []


def test_a_data_card(tmp_path: Path) -> None:
    with (tmp_path / "raw.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["text", "label"])
        rows.writerows([f"row {i} of {name}", name] for name in MANY for i in range(10))
        rows.writerows(["", name] for name in MANY)
    job = tmp_path / "job.yaml"
    job.write_text("name: card\ndata: {input: raw.csv}\ntraining: {model: a/b}\n")
    sm_launch.prepare(job)
    card = (tmp_path / "build/card/data/data_card.html").read_text(encoding="utf-8")
    assert seen_in_browser(card, tmp_path) == []
    assert "32 other classes" in card
