"""A classifier whose labels are few, spelt in many ways, is warned of before it is trained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sm_launch import cli

LABELS = ["very good", "very-good", "Very Good", "very good ", "very goods", "bad", "Bad", "bad!",
          "BAD", "bads"]  # fmt: skip
ROWS = [{"text": f"row {n}", "label": LABELS[n % 10]} for n in range(100)]


def _train(capsys: pytest.CaptureFixture[str], *more: str) -> str:
    assert cli.run(["train", "--target", "process", "--dry-run", *more]) == 0
    return capsys.readouterr().err


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    text = "name: a\ndata: {input: rows.jsonl}\ntraining: {model: org/name}\n"
    (tmp_path / "job.yaml").write_text(text)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return tmp_path


def test_prepared_labels(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["data", "prepare"]) == 0
    told = capsys.readouterr().out
    assert "note: label 'very good' is also spelt 'Very Good' (10 rows)" in told
    assert told.count("labels that look like one") == 2
    warnings = _train(capsys)
    assert warnings.count("warning: labels that look like one") == 2
    assert "'very good' (24 rows), 'very goods' (8 rows), 'very-good' (8 rows)" in warnings


def test_labels_of_channels_that_nobody_prepared(job: Path, capsys) -> None:
    warnings = _train(capsys, "--set", "training.channels.train=rows.jsonl")
    assert warnings.count("warning: labels that look like one") == 2
    assert "'very good ' (10 rows)" in warnings


def test_other_methods_and_clean_labels_get_no_warning(job: Path, capsys) -> None:
    rows = [{"text": f"row {n}", "label": ["good", "bad"][n % 2]} for n in range(20)]
    (job / "clean.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "warning" not in _train(capsys, "--set", "training.channels.train=clean.jsonl")
    sft = ["--set", "training.method=sft", "--set", "data.task=text"]
    assert "warning" not in _train(capsys, *sft, "--set", "training.channels.train=rows.jsonl")
