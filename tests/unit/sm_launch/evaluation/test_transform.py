"""Answers that a batch transform job wrote."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sm_launch import cli
from sm_launch.errors import UserInputError
from sm_launch.evaluation import EvaluationPlan, read_outputs

ROWS = [{"text": f"t{n}", "label": "ab"[n % 2]} for n in range(6)]


def answer(label: str) -> list[dict[str, object]]:
    return [{"label": label, "score": 0.8}, {"label": "b" if label == "a" else "a", "score": 0.2}]


def lines(values) -> str:
    return "".join(json.dumps(value) + "\n" for value in values)


def test_layouts_of_outputs(tmp_path: Path):
    answers = [answer("a") for _ in ROWS]
    one = tmp_path / "rows.jsonl.out"
    one.write_text(lines(answers))
    assert read_outputs(tmp_path, 6) == answers
    one.write_text(json.dumps(answers))
    assert read_outputs(one, 6) == answers
    one.write_text(lines([answers[:4], answers[4:]]))  # one line a request of several records
    assert read_outputs(one, 6) == answers
    with pytest.raises(UserInputError, match="holds 6 answers, and the data has 7 rows"):
        read_outputs(one, 7)
    with pytest.raises(UserInputError, match=r"no \.out file"):
        read_outputs(tmp_path / "nothing", 6)


def test_evaluate_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "job.yaml").write_text("name: tiny\n")
    (tmp_path / "rows.jsonl").write_text(lines(ROWS))
    answers = [answer("a"), answer("b"), answer("a"), {"error": {"message": "too long"}},
               answer("b"), answer("b")]  # fmt: skip
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "rows.jsonl.out").write_text(lines(answers))
    command = ["evaluate", "--transform-output", "out", "--data", "rows.jsonl", "--json"]
    assert cli.run(command) == 1  # one row of six failed, one in a hundred is allowed
    assert "too long" in capsys.readouterr().err
    allowed = ["-s", "evaluation.max_failed_share=0.5"]
    assert cli.run([*command, *allowed, "--fail-under", "accuracy=0.9"]) == 3
    document = json.loads(capsys.readouterr().out)
    assert document["metrics"]["accuracy"] == 0.8
    assert document["failures"] == [{"index": 3, "reason": "too long", "status": None}]
    assert document["latency_ms"] is None
    assert document["gates"][0]["passed"] is False
    html = (tmp_path / "build" / "tiny" / "report" / "report.html").read_text()
    assert "Reliability" in html
    assert cli.run([*command, "--endpoint", "x"]) == 2


def test_answers_with_one_label_each_do_not_tell_what_the_model_knows():
    from sm_launch.evaluation import evaluate_outputs, make_task

    answers = [{"label": "b", "score": 0.9}] * 2
    rows = [{"text": "x", "label": "a"}] * 2
    result = evaluate_outputs(answers, rows, EvaluationPlan(task=make_task("text-classification")))
    assert result.metrics.summary["accuracy"] == 0
    wrong = "the model answers 'b', and the data has 'a': every row is wrong"
    assert wrong in result.warnings
