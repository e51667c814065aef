"""`sm-launch init --task`: one source for the examples and for what a user starts from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sm_launch import cli
from sm_launch.commands import task_example
from sm_launch.job.config import load_config
from sm_launch.job.hyperparameters import check_hyperparameters


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


DATA = ["--data", "mine.jsonl"]
TEXT, PAIR = "a text of one's own", {"chosen": "yes", "rejected": "no"}
# Task, rows as a public data set of it has them, what is said of them, and what job.yaml then says.
PUBLIC: dict[str, tuple[str, dict[str, Any], list[str], dict[str, Any]]] = {
    "WMT": ("summarization", {"translation": {"de": "ein Wort", "en": "a word"}}, [],
            {"data.columns.source": "translation.de", "data.columns.target": "translation.en",
             "training.hyperparameters.source_prefix": None}),
    "Alpaca": ("sft-chat", {"instruction": TEXT, "input": "", "output": TEXT}, [],
               {"data.columns.prompt": ["instruction", "input"],
                "training.hyperparameters.assistant_only_loss": None}),
    "ShareGPT": ("sft-chat", {"conversations": [{"from": "human", "value": TEXT},
                                                {"from": "gpt", "value": TEXT}]}, [],
                 {"data.columns.messages": "conversations",
                  "training.hyperparameters.assistant_only_loss": True}),
    "OpenAI's preferences": (
        "dpo", {"input": {"messages": []}, "preferred_output": [], "non_preferred_output": []}, [],
        {"data.columns.prompt": "input.messages", "data.columns.chosen": "preferred_output",
         "data.columns.rejected": "non_preferred_output"}),
    "a prompt that the user names": (
        "dpo", {"question": TEXT, "asked": TEXT, **PAIR}, ["--column", "prompt=asked"],
        {"data.columns.prompt": "asked"}),
    "GLUE's STS-B": ("embeddings", {"sentence1": TEXT, "sentence2": TEXT, "label": 3.8}, [],
                     {"data.columns.score": "label", "evaluation.fail_under": {}}),
    "AllNLI": ("embeddings", {"anchor": TEXT, "positive": TEXT, "negative": TEXT}, [],
               {"data.columns.negative": "negative", "evaluation.fail_under": {}}),
    "QQP": ("embeddings", {"sentence1": TEXT, "sentence2": TEXT, "label": 1}, [],
            {"data.columns.score": "score"}),
    "MATH": ("grpo", {"problem": TEXT, "solution": "1"}, [],
             {"data.columns.prompt": "problem", "evaluation.label_column": "solution",
              "training.hyperparameters.answer_column": "solution"}),
    "prompts alone": ("grpo", {"prompt": TEXT}, [],
                      {"training.hyperparameters.reward_funcs": ["length"],
                       "evaluation.answer_pattern": None}),
    "reviews": ("sentiment", {"review": TEXT, "sentiment": 1}, [],
                {"data.label_map": {}, "data.labels": None}),
    "tickets": ("inference-script", {"body": TEXT, "label": "P1"}, [],
                {"evaluation.fail_under": {}, "data.columns.text": "body"}),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLIC)
def test_it_fits_a_public_data_set(here: Path, name: str) -> None:
    task, row, given, says = PUBLIC[name]
    (here / "mine.jsonl").write_text(f"{json.dumps(row)}\n" * 4)
    assert cli.run(["init", "--task", task, *DATA, *given]) == 0
    config = load_config(here / "job.yaml")
    for key, value in says.items():
        told: Any = config
        for part in key.split("."):
            told = getattr(told, part, told.get(part) if isinstance(told, dict) else None)
        assert told == value, key
    check_hyperparameters(config.training.method, config.training.hyperparameters)
    assert (here / "code").is_dir() == (task == "inference-script")


def test_a_table_without_a_header_is_read_by_places(here: Path) -> None:
    rows = [f"where is {n}\tit is here, {n}\tno {n}\n" for n in range(9)]
    (here / "mine.tsv").write_text("".join(rows))
    data = ["--data", "mine.tsv", "--force"]
    for given in ([], ["--column", "anchor=0", "--column", "positive=1", "--column", "negative=2"]):
        assert cli.run(["init", "--task", "embeddings", *data, *given]) == 0
        written = load_config(here / "job.yaml")
        config = written.data
        assert config is not None
        assert config.header is False
        assert written.evaluation.fail_under == {}
        columns = config.columns
        assert (columns.anchor, columns.positive, columns.negative) == (0, 1, 2)
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
