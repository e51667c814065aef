"""`sm-launch init --method M --data FILE` writes a job.yaml that runs as it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sm_launch import cli
from sm_launch.data.guess import guess
from sm_launch.errors import UserInputError
from sm_launch.job.config import load_config

from .test_tasks import METHODS, rows_of, write_rows

FORMATS = ("csv", "tsv", "json", "jsonl", "parquet")
# What such data are called where people publish them: other names than ours.
RENAMED = {
    "text-classification": {"text": "Review Text", "label": "Sentiment"},
    "token-classification": {"tokens": "words", "tags": "ner_tags"},
    "question-answering": {"context": "passage"},
    "embedding": {"anchor": "query", "positive": "passage"},
    "sft": {"prompt": "question", "completion": "answer"},
    "dpo": {"prompt": "instruction", "chosen": "chosen_response", "rejected": "rejected_response"},
    "kto": {"label": "thumbs_up"},
    "grpo": {"prompt": "problem", "answer": "solution"},
}


def run(*arguments: str) -> None:
    assert cli.run(list(arguments)) == 0, arguments


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_a_method_and_a_file_are_all_that_has_to_be_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys, method: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for at, suffix in enumerate(FORMATS):
        rows = rows_of(method)
        if at % 2:
            names = RENAMED.get(method, {})
            rows = [{names.get(key, key): value for key, value in row.items()} for row in rows]
        write_rows(tmp_path / f"rows.{suffix}", rows)
        run("init", "--method", method, "--data", f"rows.{suffix}", "--force")
        run("data", "prepare")
        capsys.readouterr()
        run("train", "--target", "process", "--dry-run")
        request = json.loads(capsys.readouterr().out)
        assert request["HyperParameters"]["method"] == method
        assert [c["ChannelName"] for c in request["InputDataConfig"]] == [
            "test",
            "train",
            "validation",
        ]
        kept = sum(
            len((tmp_path / f"build/my-job/data/{s}/{s}.jsonl").read_text().split("\n")) - 1
            for s in ("train", "validation", "test")
        )
        assert kept == len(rows), (suffix, capsys.readouterr())


@pytest.mark.parametrize(
    ("name", "content", "columns"),
    [
        ("a.csv", "".join(f"a long text of row {n},{'ab'[n % 2]}\n" for n in range(20)),
         {"text": 0, "label": 1}),
        ("a.tsv", "".join(f"{'01'[n % 2]}\ta long text of row {n}\n" for n in range(20)),
         {"text": 1, "label": 0}),
        ("a.csv", "Was;Wie\n" + "".join(f"ein Text, Nummer {n};{'ab'[n % 2]}\n" for n in range(20)),
         {"text": "Was", "label": "Wie"}),
    ],
)  # fmt: skip
def test_columns_are_told_by_what_they_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: str, columns
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_text(content)
    run("init", "--data", name)
    data = load_config(Path("job.yaml")).data
    assert data is not None
    assert {"text": data.columns.text, "label": data.columns.label} == columns
    run("data", "prepare")


def test_a_file_that_does_not_fit_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.jsonl").write_text('{"good": "x", "bad": "y"}\n{"good": "v", "bad": "w"}\n')
    assert cli.run(["init", "--method", "dpo", "--data", "a.jsonl"]) == 2
    assert "--column chosen=COLUMN" in capsys.readouterr().err
    named = ["--column", "chosen=good", "--column", "rejected=bad"]
    run("init", "--method", "dpo", "--data", "a.jsonl", *named)
    data = load_config(Path("job.yaml")).data
    assert data is not None and (data.columns.chosen, data.columns.rejected) == ("good", "bad")


def test_a_job_in_another_directory_finds_its_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "rows.csv", rows_of("text-classification"))
    Path("jobs").mkdir()
    run("init", "--data", "rows.csv", "--output", "jobs/one.yaml")
    run("data", "validate", "--config", "jobs/one.yaml")


@pytest.mark.parametrize(
    ("method", "content", "columns"),
    [
        # Sentiment140: no header, and a first row in which words of columns' names stand.
        ("text-classification",
         "".join(f'"{n % 2 * 4}","{n + 100}","NO_QUERY","@ann the score {n}"\n' for n in range(20)),
         {"text": 3, "label": 0}),
        # MS MARCO's triples have no label: the third column is a document, too.
        ("reranking", "".join(f"q{n},an answer {n},no answer {n}\n" for n in range(20)),
         {"query": 0, "positive": 1, "negative": 2}),
        ("reranking", "".join(f"q{n},a document {n},{n % 2}\n" for n in range(20)),
         {"query": 0, "document": 1, "label": 2}),
        ("reranking", "Query,pos,neg\n" + "".join(f"q{n},yes {n},no {n}\n" for n in range(20)),
         {"query": "Query", "positive": "pos", "negative": "neg"}),
    ],
)  # fmt: skip
def test_a_first_row_of_data_gives_no_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, content: str, columns
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.csv").write_text(content)
    run("init", "--method", method, "--data", "a.csv")
    data = load_config(Path("job.yaml")).data
    assert data is not None
    assert {name: getattr(data.columns, name) for name in columns} == columns
    run("data", "validate")


@pytest.mark.parametrize(
    ("method", "row", "columns"),
    [
        # QNLI, Quora's questions, BoolQ, Amazon's reviews, Dolly, CodeSearchNet
        ("text-classification", {"index": 1, "question": "q", "sentence": "s", "label": "a"},
         {"text": "question", "text_pair": "sentence", "label": "label"}),
        ("text-classification",
         {"id": 1, "qid1": 1, "qid2": 2, "question1": "a", "question2": "bcd", "is_duplicate": 0},
         {"text": "question1", "text_pair": "question2", "label": "is_duplicate"}),
        ("text-classification",
         {"question": "is it", "title": "t", "answer": True, "passage": "a long passage"},
         {"text": "question", "text_pair": "passage", "label": "answer"}),
        ("text-classification",
         {"review_id": "en_1", "stars": "3", "review_body": "good", "review_title": "meh"},
         {"text": "review_body", "label": "stars"}),
        ("sft", {"instruction": "i", "context": "c", "response": "r", "category": "qa"},
         {"prompt": ["instruction", "context"], "completion": "response"}),
        ("embedding", {"repo": "a/b", "code": "def f(): pass", "docstring": "It passes."},
         {"anchor": "docstring", "positive": "code"}),
    ],
)  # fmt: skip
def test_what_columns_of_public_sets_are_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, row, columns
) -> None:
    monkeypatch.chdir(tmp_path)
    other = {"label": "b", "is_duplicate": 1, "answer": False, "stars": "1"}
    rows = [row | {k: v for k, v in other.items() if k in row and n % 2} for n in range(20)]
    write_rows(tmp_path / "rows.jsonl", rows)
    assert guess(method, "rows.jsonl", tmp_path).columns == columns


@pytest.mark.parametrize(
    "row",
    [
        {"message_tree_id": "t", "tree_state": "ready", "prompt": {"text": "a", "replies": []}},
        {"message_id": "m", "parent_id": "n", "text": "a", "role": "prompter", "lang": "en"},
    ],
)
def test_trees_of_messages_are_no_texts(tmp_path: Path, row) -> None:
    write_rows(tmp_path / "rows.jsonl", [row] * 5)
    with pytest.raises(UserInputError, match="and no conversations"):
        guess("sft", "rows.jsonl", tmp_path)
