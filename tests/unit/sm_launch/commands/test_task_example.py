"""`sm-launch init --task`: one source for the examples and for what a user starts from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sm_launch import cli
from sm_launch.commands import task_example
from sm_launch.job.config import load_config


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_example_is_a_job_with_a_page_and_a_small_file() -> None:
    assert len(task_example.names()) == 15
    for name in task_example.names():
        folder = task_example.example(name)
        config = load_config(folder / "job.yaml")
        assert config.name == name
        assert config.data is not None
        raw = folder / str(config.data.input)
        assert name == "sentiment" or raw.stat().st_size < 60_000
        assert name == "sentiment" or (folder / "README.md").read_text().count("\n") < 40


def test_it_comes_with_its_data_and_never_over_a_file(here: Path) -> None:
    assert cli.run(["init", "--task", "inference-script", "--name", "mine", "--json"]) == 0
    assert sorted(path.name for path in here.iterdir()) == ["code", "job.yaml", "raw.csv"]
    assert load_config(here / "job.yaml").name == "mine"
    (here / "job.yaml").unlink()
    (here / "raw.csv").write_text("my own")
    assert cli.run(["init", "--task", "topics"]) == 0  # whose file is raw.tsv
    (here / "job.yaml").unlink()
    assert cli.run(["init", "--task", "multi-label"]) == 2
    assert (here / "raw.csv").read_text() == "my own"
    assert not (here / "job.yaml").exists()


def test_with_a_file_of_one_s_own_it_names_that_one(here: Path) -> None:
    rows = [{"body": f"text {n}", "topics": ["a"] * (n % 2)} for n in range(20)]
    (here / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = ["--data", "mine.jsonl", "--column", "label=topics", "--model", "org/base"]
    assert cli.run(["init", "--task", "multi-label", *given]) == 0
    config = load_config(here / "job.yaml")
    assert config.data is not None
    assert (config.data.input, config.data.labels) == ("mine.jsonl", None)
    assert (config.data.columns.text, config.data.columns.label) == ("body", "topics")
    assert config.training.model == "org/base"
    assert config.training.hyperparameters["problem_type"] == "multi_label_classification"
    assert sorted(path.name for path in here.iterdir()) == ["job.yaml", "mine.jsonl"]


def test_a_table_of_one_s_own_is_read_as_it_is(here: Path) -> None:
    """Without a header, in Europe's way, and with labels that the example does not know."""
    rows = "".join(f"a long text of row {n};{n % 2}\n" for n in range(20))
    (here / "mine.csv").write_text(rows)
    assert cli.run(["init", "--task", "sentiment", "--data", "mine.csv"]) == 0
    data = load_config(here / "job.yaml").data
    assert data is not None
    assert (data.header, data.delimiter) == (False, ";")
    assert (data.labels, data.label_map) == (None, {})
    assert cli.run(["data", "validate"]) == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--task", "multilabel"], "did you mean multi-label?"),
        (["--task", "x"], "choose one of dpo, embeddings"),
        (["--task", "ner", "--method", "sft"], "--method"),
        (["--task", "ner", "--column", "tags=t"], "--column"),
    ],
)
def test_what_cannot_be_is_said(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["init", *arguments]) == 2
    assert said in capsys.readouterr().err
