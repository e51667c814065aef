from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from sm_launch.evaluation import EvaluationResult, Prediction, RowFailure, RunInfo, check_gates
from sm_launch.evaluation.cells import result_cell
from sm_launch.evaluation.latency import latency_stats
from sm_launch.evaluation.metrics import classification_metrics
from sm_launch.evaluation.report import render_report, write_evaluation
from sm_launch.evaluation.result import Throughput

EVIL = "<script>alert('x')</script> & <b>"


def make_result(labels: int = 3) -> EvaluationResult:
    names = [f"class {i} {EVIL}" for i in range(labels)]
    predictions = tuple(
        Prediction(i, f"{EVIL} {i}", names[i % labels], names[(i * i) % labels], {})
        for i in range(4 * labels)
    )
    load = latency_stats([0.02, 0.03])
    return EvaluationResult(
        rows_total=len(predictions) + 1,
        predictions=predictions,
        failures=(RowFailure(99, f"bad {EVIL}", 400),),
        metrics=classification_metrics(predictions),
        latency=latency_stats([0.005, 0.006, 0.02], keep_samples=True),
        throughput=Throughput(8, 2, 1.5, 400.0, 50.0, 2, load),
        retries=3,
        started_at="2026-01-01T00:00:00+00:00",
        duration_s=2.0,
        warnings=(EVIL,),
        info=RunInfo(endpoint=EVIL, command="sm-launch evaluate -c job.yaml"),
    )


class Strict(HTMLParser):
    """Collects tags and fails on an unbalanced document."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def parse(html: str) -> Strict:
    parser = Strict()
    parser.feed(html)
    assert parser.open == []
    return parser


def test_the_report_is_one_balanced_file_without_foreign_content():
    html = render_report(make_result(), check_gates(make_result(), {"accuracy": 0.1}))
    parser = parse(html)
    assert "script" not in parser.tags
    assert "b" not in parser.tags
    assert not re.search(r"(src|href)=|url\(|@import|https?://", html)
    assert "accuracy = " in html


@pytest.mark.slow
def test_many_classes_still_draw():
    html = render_report(make_result(60))
    assert parse(html).tags.count("rect") >= 3600
    assert len(html) < 2_000_000


def test_nothing_answered_still_reports_the_failures():
    empty = EvaluationResult(
        1, (), (RowFailure(0, "no answer"),), None, None, None, 0, "2026-01-01T00:00:00+00:00", 0.1
    )
    assert "no answer" in render_report(empty)


def test_files_are_written_with_curves_and_data(tmp_path: Path):
    log = tmp_path / "training_log.jsonl"
    events = [
        {"step": 10, "loss": 1.0, "learning_rate": 1e-5},
        {"step": 20, "loss": 0.5, "learning_rate": 5e-6},
        {"step": 20, "eval_loss": 0.6, "eval_accuracy": 0.8, "eval_runtime": 3.0},
    ]
    log.write_text("\n".join(map(json.dumps, events)) + '\n{"step": 3')
    manifest = tmp_path / "manifest.json"
    split = {"rows": 70, "sha256": "ab" * 32, "labels": {"x": 70}, "characters": {"p50": 10}}
    manifest.write_text(
        json.dumps(
            {
                "labels": ["x"],
                "counts": {"read": 100, "kept": 70, "rejected": 30},
                "rejected": {"empty text": 30},
                "splits": {"test": split},
            }
        )
    )
    paths = write_evaluation(make_result(), tmp_path / "out", training_log=log, manifest=manifest)
    html = paths.report.read_text()
    parse(html)
    for text in ("Validation metrics", "training: from 1 to 0.5", "empty text", "100 raw rows"):
        assert text in html
    assert "runtime" not in html
    document = json.loads(paths.evaluation.read_text())
    assert document["failures"] == [{"index": 99, "reason": f"bad {EVIL}", "status": 400}]
    assert document["latency_ms"]["p50"] == 6.0
    assert len(paths.predictions.read_text().splitlines()) == 12


def test_a_notebook_shows_a_screen_and_not_the_predictions():
    result = result_cell(make_result())
    assert result.to_dict() == make_result().to_dict()
    assert len(repr(result)) < 200
    html = result._repr_html_()
    parser = parse(html.replace("<br>", ""))
    assert "img" in parser.tags
    assert "script" not in parser.tags
    assert "b" not in parser.tags
    assert "latency p50" in html
    assert len(html) < 40_000
    assert html.count("\n") < 40
