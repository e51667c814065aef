from __future__ import annotations

import json
from pathlib import Path

import pytest

from sm_launch.errors import UserInputError
from sm_launch.evaluation import make_task, read_rows
from sm_launch.evaluation.example import UnusableRow

ROW = {"text": "a, b", "label": "x"}


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_json_lines_csv_and_directories(tmp_path: Path):
    one = write(tmp_path / "1.jsonl", '{"text": "a, b", "label": "x"}\n\n')
    write(tmp_path / "2.csv", '\ufefftext,label\n"a, b",x\nshort\n')
    write(tmp_path / "README.md", "not data")
    assert read_rows(one) == [ROW]
    assert read_rows(f"file://{tmp_path}") == [ROW, ROW, {"text": "short", "label": None}]
    assert read_rows(tmp_path, limit=2) == [ROW, ROW]


def test_parquet(tmp_path: Path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist([ROW]), tmp_path / "a.parquet")
    assert read_rows(tmp_path / "a.parquet") == [ROW]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", '{"text": "a"}\n{oops\n', r"line 2: not JSON"),
        ("a.jsonl", "[1]\n", "line 1: not a JSON object"),
        ("a.jsonl", "", "no rows"),
        ("a.xlsx", "", "cannot read a .xlsx file"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, name, text, message):
    with pytest.raises(UserInputError, match=message):
        read_rows(write(tmp_path / name, text))


def test_missing_and_remote_files(tmp_path: Path):
    with pytest.raises(UserInputError, match="not found"):
        read_rows(tmp_path / "none.jsonl")
    with pytest.raises(UserInputError, match="only paths"):
        read_rows("https://bucket/test.jsonl")
    with pytest.raises(UserInputError, match="in this directory"):
        read_rows(tmp_path)


def test_squad_and_arrays_of_json(tmp_path: Path):
    article = {"paragraphs": [{"context": "c", "qas": [{"question": "q", "answers": []}]}]}
    squad = write(tmp_path / "squad.json", json.dumps({"version": "2", "data": [article]}))
    assert read_rows(squad) == [{"context": "c", "question": "q", "answers": []}]
    assert read_rows(write(tmp_path / "rows.json", json.dumps([ROW]))) == [ROW]
    assert read_rows(write(tmp_path / "rows.tsv", "text\tlabel\na, b\tx\n")) == [ROW]


def test_class_ids_of_the_hub_are_the_classes_that_their_file_names(tmp_path: Path):
    """A model has its classes in an order of its own; only where a file names none do ids count."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    label = {"names": ["entailment", "neutral"], "_type": "ClassLabel"}
    tags = {"feature": {"names": ["O", "B-PER"], "_type": "ClassLabel"}, "_type": "List"}
    info = {"info": {"features": {"label": label, "tags": tags}}}
    rows = [{"text": "a", "label": n, "tokens": ["x"], "tags": [n]} for n in (0, 1, -1)]
    table = pa.Table.from_pylist(rows)
    metadata = {"huggingface": json.dumps(info)}
    pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "hub.parquet")
    pq.write_table(table, tmp_path / "plain.parquet")

    def golds(name: str, task: str, *known: str) -> list[str]:
        asked = make_task(task, known_labels=known)
        return [asked.example(0, row).gold for row in read_rows(tmp_path / name)[:2]]

    assert golds("hub.parquet", "text-classification", "neutral", "entailment") == [
        "entailment", "neutral",
    ]  # fmt: skip
    assert golds("hub.parquet", "text-classification", "no", "yes") == ["no", "yes"]
    assert golds("plain.parquet", "text-classification", "neutral", "entailment") == [
        "neutral", "entailment",
    ]  # fmt: skip
    of_hub = golds("hub.parquet", "token-classification", "B-PER", "O")
    of_plain = golds("plain.parquet", "token-classification", "O", "B-PER")
    assert of_hub == of_plain
    last = read_rows(tmp_path / "hub.parquet")[2]
    for task in ("text-classification", "token-classification"):
        with pytest.raises(UnusableRow):
            make_task(task).example(0, last)
