"""`sm-launch data preview`: the container's own view of a prepared job, without a training."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from sm_launch import cli

pytestmark = pytest.mark.slow


def test_rows_as_the_model_sees_them(
    decoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [{"question": f"capital {n} ?", "answer": f"city {n} ."} for n in range(40)]
    Path("qa.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert cli.run(["init", "--method", "sft", "--data", "qa.jsonl", "--model", str(decoder)]) == 0
    assert cli.run(["data", "prepare"]) == 0
    before = sorted(tmp_path.rglob("*"))
    capsys.readouterr()
    assert cli.run(["data", "preview", "--rows", "2"]) == 0
    told = capsys.readouterr().out
    shown = [line for line in told.split("\n") if line.startswith(("train", "validation", "test"))]
    splits = [line.split(" ")[0] for line in shown]
    assert splits == ["train"] * 2 + ["validation"] * 2 + ["test"] * 2
    assert all("⟦" in line and "city" in line.partition("⟦")[2] for line in shown)
    assert all("user > capital" in line.partition("⟦")[0] for line in shown)
    assert "warning: the prompts" not in told
    assert sorted(tmp_path.rglob("*")) == before

    document = yaml.safe_load(Path("job.yaml").read_text())
    document["training"]["hyperparameters"]["chat_template"] = "none-such.jinja"
    Path("job.yaml").write_text(yaml.safe_dump(document))
    assert cli.run(["data", "preview"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: chat_template = 'none-such.jinja': ")
    assert "training job" not in said
