"""Rows of every method, in every file format, come out with the columns that the trainer reads."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sm_launch.errors import UserInputError
from sm_launch.job.config import JobConfig

TALK = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]


def rows_of(method: str, count: int = 40) -> list[dict[str, Any]]:
    """Rows as people have them for a method."""
    return [_row(method, n) for n in range(count)]


def _row(method: str, n: int) -> dict[str, Any]:
    question, answer = f"What is {n} plus {n}?", f"It is {2 * n}."
    if method == "text-classification":
        return {"text": question, "label": ("even", "odd")[n % 2]}
    if method == "token-classification":
        return {"tokens": ["Ann", "sees", f"Bob{n}"], "tags": ["B-PER", "O", "B-PER"]}
    if method == "question-answering":
        context = f"Number {n}. The answer is {2 * n}."
        answers = {"text": [str(2 * n)], "answer_start": [context.rindex(str(2 * n))]}
        return {"question": question, "context": context, "answers": answers}
    if method == "embedding":
        return {"anchor": question, "positive": answer}
    if method == "reranking":
        return {"query": question, "document": answer, "label": n % 2 / 2}
    if method == "seq2seq":
        return {"source": f"{question} {answer}", "target": answer}
    if method == "sft":
        return {"prompt": question, "completion": answer}
    if method == "kto":
        return {"prompt": question, "completion": answer, "label": n % 2 == 0}
    if method in ("grpo", "rloo", "distillation"):
        return {"prompt": question, "answer": str(2 * n)}
    return {"prompt": question, "chosen": answer, "rejected": "No idea."}


METHODS = [
    "text-classification", "token-classification", "question-answering", "embedding", "seq2seq",
    "reranking", "sft", "dpo", "orpo", "cpo", "reward", "kto", "grpo", "rloo", "distillation",
]  # fmt: skip


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write rows in the format of the file's name; lists are JSON in a CSV."""
    suffix = path.suffix
    if suffix in (".csv", ".tsv"):
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, rows[0], delimiter="\t" if suffix == ".tsv" else ",")
        writer.writeheader()
        for row in rows:
            writer.writerow({k: v if isinstance(v, str) else json.dumps(v) for k, v in row.items()})
        path.write_text(buffer.getvalue(), encoding="utf-8")
    elif suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif suffix == ".json":
        path.write_text(json.dumps(rows), encoding="utf-8")
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_gets_its_columns(run, tmp_path: Path, method: str, suffix: str) -> None:
    rows = rows_of(method)
    write_rows(tmp_path / f"rows.{suffix}", rows)
    done = run(input=f"rows.{suffix}", task=method)
    assert done.report.rows_kept == len(rows)
    expected = {json.dumps(_plain(row), sort_keys=True) for row in rows}
    written = {json.dumps(_plain(row), sort_keys=True) for row in done.all_rows}
    assert written == expected


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """CSV has JSON for lists, and text for booleans: what the trainer reads all the same."""
    plain = {}
    for name, value in row.items():
        text = value if isinstance(value, str) else json.dumps(value)
        plain[name] = json.loads(text) if text.startswith(("{", "[")) else text
    return plain


def test_the_task_follows_from_the_method() -> None:
    job = {"name": "a", "data": {"input": "a.jsonl"}, "training": {"method": "dpo"}}
    assert JobConfig.model_validate(job).data.task == "dpo"
    job["data"]["task"] = "sft"
    with pytest.raises(ValueError, match="leave data"):
        JobConfig.model_validate(job)
    job["training"]["method"] = "sft"
    job["data"]["task"] = "messages"
    assert JobConfig.model_validate(job).data.task == "messages"


def test_numbers_to_predict(run, write) -> None:
    hyperparameters = {"problem_type": "regression"}
    job = {"name": "a", "data": {"input": "a"}, "training": {"hyperparameters": hyperparameters}}
    assert JobConfig.model_validate(job).data.task == "regression"
    write(
        "a.csv",
        "text,label\n" + "".join(f"t{n},{n / 7:.3f}\n" for n in range(60)) + "x,n/a\ny,much\n",
    )
    done = run(input="a.csv", task="regression")
    assert done.report.rejected == {"missing_label": 1, "invalid_label": 1}
    assert {row["label"] for row in done.all_rows} == {round(n / 7, 3) for n in range(60)}


def test_pairs_match_or_not_and_grades_are_scores(run, write) -> None:
    """What training would set aside as no 0 and no 1 is set aside here, with the fix."""
    head = "sentence1,sentence2,label\n"
    write("a.csv", head + "".join(f"a {n},b {n},{n % 2}\n" for n in range(60)) + "a,b,3\nc,d,\n")
    done = run(input="a.csv", task="embedding")
    assert done.report.rejected == {"invalid_label": 1, "missing_label": 1}
    assert {row["label"] for row in done.all_rows} == {0, 1}
    write("b.csv", head + "".join(f"a {n},b {n},{n % 6}\n" for n in range(60)))
    with pytest.raises(
        UserInputError, match=r"grades are scores: set data.columns: \{score: label"
    ):
        run(input="b.csv", task="embedding", max_rejected_share=0.1)
    graded = run(input="b.csv", task="embedding", columns={"score": "label"})
    assert {row["score"] for row in graded.all_rows} == {0, 1, 2, 3, 4, 5}
    assert graded.all_rows[0].keys() == {"sentence1", "sentence2", "score"}  # not `label` again


@pytest.mark.parametrize(
    ("method", "columns"), [("dpo", ("chosen", "rejected")), ("sft", ("completion",))]
)
def test_texts_beside_messages_are_refused_as_training_refuses_them(
    run, tmp_path: Path, method: str, columns: tuple[str, ...]
) -> None:
    rows = rows_of(method)
    for row in rows[:3]:
        row.update({name: [{"role": "assistant", "content": row[name]}] for name in columns})
    write_rows(tmp_path / "rows.jsonl", rows)
    with pytest.raises(UserInputError, match="mixes 37 rows of text and 3 rows of messages"):
        run(input="rows.jsonl", task=method)
    for row in rows:
        row["prompt"] = TALK[:1]  # one list in a row makes it one of messages, as in training
    write_rows(tmp_path / "rows.jsonl", rows)
    assert run(input="rows.jsonl", task=method).report.rows_kept == len(rows)


@pytest.mark.parametrize("method", ["sft", "dpo", "kto"])
@pytest.mark.parametrize("image", ["a.png", {"bytes": "AAAA", "path": None}])
def test_rows_with_images_are_refused_and_not_prepared_without_them(
    run, tmp_path: Path, method: str, image: Any
) -> None:
    rows = [{**row, "image": image} for row in rows_of(method)]
    write_rows(tmp_path / "rows.jsonl", rows)
    with pytest.raises(UserInputError, match="the rows have images, which are not prepared"):
        run(input="rows.jsonl", task=method)


def test_an_image_in_a_message_is_no_row_without_its_file(run, tmp_path: Path) -> None:
    place = [{"type": "image", "path": "a.png"}, {"type": "text", "text": "what?"}]
    rows: list[dict[str, Any]] = [{"messages": [*TALK, *TALK]} for _ in range(9)]
    rows.append({"messages": [{"role": "user", "content": place}, TALK[1]]})
    write_rows(tmp_path / "rows.jsonl", rows)
    with pytest.raises(UserInputError, match="an image, whose file would not be carried"):
        run(input="rows.jsonl", task="sft", max_rejected_share=0.0)


def test_the_documents_of_a_query_stay_in_one_split(tmp_path: Path, run) -> None:
    data = {"input": "a.csv", "columns": {"query": "asked", "label": "relevance"}}
    job = {"name": "a", "data": data, "training": {"method": "reranking"}}
    assert JobConfig.model_validate(job).data.split.group == "asked"
    own = {**job, "data": {**data, "split": {"group": "user"}}}
    assert JobConfig.model_validate(own).data.split.group == "user"
    rows = [{"query": f"q{n // 4}", "document": f"d{n}", "label": n % 4} for n in range(160)]
    write_rows(tmp_path / "rows.jsonl", rows)
    job["data"] = {"input": "rows.jsonl"}
    config = JobConfig.model_validate(job).data
    done = run(**config.model_dump(exclude_unset=True))
    splits = {name: {row["query"] for row in done.rows(name)} for name in ("train", "test")}
    assert splits["train"]
    assert splits["test"]
    assert not splits["train"] & splits["test"]


def test_the_questions_about_a_context_stay_in_one_split(tmp_path: Path, run) -> None:
    """Else the model is tested on texts that it has learnt."""
    training = {"method": "question-answering"}
    rows = [{"question": f"q{n}", "passage": f"text {n // 4}"} for n in range(160)]
    write_rows(tmp_path / "rows.jsonl", rows)
    data = {"input": "rows.jsonl", "columns": {"context": "passage"}}
    config = JobConfig.model_validate({"name": "a", "data": data, "training": training}).data
    done = run(**config.model_dump(exclude_unset=True))
    contexts = [{row["context"] for row in done.rows(name)} for name in done.report.splits]
    assert sum(map(len, contexts)) == 40


def test_a_pair_is_the_classifiers_too() -> None:
    columns = {"text": "premise", "text_pair": "hypothesis"}
    job = {"name": "a", "data": {"input": "a.csv", "columns": columns}}
    assert JobConfig.model_validate(job).training.hyperparameters == {
        "text_pair_column": "text_pair"
    }


@pytest.mark.parametrize(
    ("row", "columns", "expected"),
    [
        ({"messages": TALK}, {}, {"messages": TALK}),
        ({"conversations": TALK}, {"messages": "conversations"}, {"messages": TALK}),
        ({"question": "q", "answer": "a"}, {"prompt": "question", "completion": "answer"},
         {"prompt": "q", "completion": "a"}),
        ({"instruction": "do", "input": "it", "output": "ok"},
         {"prompt": ["instruction", "input"], "completion": "output"},
         {"prompt": "do\n\nit", "completion": "ok"}),
        ({"instruction": "do", "input": "", "output": "ok"},
         {"prompt": ["instruction", "input"], "completion": "output"},
         {"prompt": "do", "completion": "ok"}),
        ({"text": "a document"}, {}, {"text": "a document"}),
    ],
)  # fmt: skip
def test_sft_takes_the_shape_that_the_file_has(run, write, row, columns, expected) -> None:
    write("a.jsonl", json.dumps(row))
    split = {"train": 1, "validation": 0, "test": 0}
    assert run(input="a.jsonl", task="sft", columns=columns, split=split).all_rows == [expected]


HH = "\n\nHuman: two?\n\nAssistant: "


@pytest.mark.parametrize(
    ("task", "row", "text", "messages"),
    [
        ("sft", {"prompt": "The sky is", "completion": " blue.  "},
         {"prompt": "The sky is", "completion": " blue."},
         {"prompt": "The sky is", "completion": "blue."}),
        ("sft", {"prompt": " Q: two?\nA: ", "completion": "2"},
         {"prompt": "Q: two?\nA: ", "completion": "2"},
         {"prompt": "Q: two?\nA:", "completion": "2"}),
        ("dpo", {"prompt": "two?\n", "chosen": "2", "rejected": "\n3"},
         {"prompt": "two?\n", "chosen": "2", "rejected": "\n3"},
         {"prompt": "two?", "chosen": "2", "rejected": "3"}),
        ("grpo", {"prompt": "two?\n", "answer": " 2"}, {"prompt": "two?\n", "answer": " 2"},
         {"prompt": "two?", "answer": " 2"}),
        ("reward", {"chosen": f"{HH}2", "rejected": f"{HH}3"},
         {"chosen": f"{HH}2", "rejected": f"{HH}3"}, {"chosen": "2", "rejected": "3"}),
    ],
)  # fmt: skip
def test_texts_are_joined_as_they_stand_or_become_messages(
    run, write, task: str, row: dict, text: dict, messages: dict
) -> None:
    """White space between prompt and answer is TRL's own way to part them."""
    write("a.jsonl", json.dumps(row))
    given = {"input": "a.jsonl", "task": task, "split": {"train": 1, "validation": 0, "test": 0}}
    assert run(**given).all_rows == [text]
    assert run(**given, steps=["trim"]).all_rows == [{k: v.strip() if k != "answer" else v
                                                      for k, v in text.items()}]  # fmt: skip
    (framed,) = run(**given, conversational=True).all_rows
    asked = {"role": "user", "content": "two?"}
    for name, value in messages.items():
        said = {"role": "user" if name == "prompt" else "assistant", "content": value}
        whole = [asked, said] if task == "reward" else [said]
        assert framed[name] == (value if name == "answer" else whole), name


def test_what_no_messages_can_be_made_of_is_set_aside_or_refused(run, write) -> None:
    rows = [{"chosen": f"{HH}2", "rejected": f"{HH}{n}"} for n in range(3, 30)]
    rows += [{"chosen": "two? 2", "rejected": "two? 3"}, {"chosen": HH, "rejected": f"{HH}3"}]
    write("a.jsonl", "\n".join(map(json.dumps, rows)))
    done = run(input="a.jsonl", task="dpo", conversational=True)
    assert done.report.rejected == {"invalid_chosen": 2}
    assert "name the prompt's column" in done.rejected[0]["detail"]
    prompts = [
        {"prompt": (n % 9 and f"q{n}") or None, "chosen": "a", "rejected": "b"} for n in range(27)
    ]
    write("b.jsonl", "\n".join(map(json.dumps, prompts)))
    done = run(input="b.jsonl", task="dpo", conversational=True)
    assert done.report.rejected == {"missing_prompt": 3}
    for data in ({"task": "embedding"}, {"task": "sft", "output_format": "csv"}):
        with pytest.raises(ValueError, match=r"conversational is for|cannot hold messages"):
            run(input="b.jsonl", conversational=True, **data)


def test_sft_without_any_of_its_columns_says_what_to_write(run, write) -> None:
    write("a.jsonl", '{"question": "q", "answer": "a"}')
    with pytest.raises(UserInputError, match=r"data\.columns: rows of sft.*question, answer"):
        run(input="a.jsonl", task="sft")


def test_tool_calls_and_other_keys_of_messages_stay(run, write) -> None:
    call = {"type": "function", "function": {"name": "f", "arguments": "{}"}}
    talk = [
        {"role": "user", "content": "call"},
        {"role": "assistant", "content": None, "tool_calls": [call], "weight": 0},
        {"role": "tool", "content": "done", "name": "f"},
        {"role": "assistant", "content": "ok "},
    ]
    write("a.jsonl", json.dumps({"messages": talk, "tools": [{"name": "f"}]}))
    split = {"train": 1, "validation": 0, "test": 0}
    (row,) = run(input="a.jsonl", task="sft", split=split).all_rows
    talk[-1]["content"] = "ok"
    assert row == {"messages": talk, "tools": [{"name": "f"}]}


def test_columns_that_are_not_read_are_named_once(run, write) -> None:
    rows = [{"prompt": f"q{n}", "completion": "a", "source": "x", "n": n} for n in range(20)]
    write("a.jsonl", "\n".join(map(json.dumps, rows)))
    (note,) = [n for n in run(input="a.jsonl", task="sft").report.notes if "not read" in n]
    assert note.startswith("columns that are not read: source, n")


def test_squad_as_it_is_downloaded(run, write) -> None:
    paragraphs = [
        {"context": f"It is {n}.", "qas": [{"id": f"{n}{k}", "question": f"What {n} {k}?",
         "answers": [{"text": str(n), "answer_start": 6}]} for k in "ab"]}
        for n in range(10)
    ]  # fmt: skip
    write("train-v1.1.json", json.dumps({"version": "1.1", "data": [{"paragraphs": paragraphs}]}))
    done = run(input="train-v1.1.json", task="question-answering")
    assert done.report.rows_kept == 20
    assert {row["context"] for row in done.all_rows} == {f"It is {n}." for n in range(10)}


def test_scores_with_a_decimal_comma(run, write) -> None:
    write(
        "a.csv", "sentence1;sentence2;score\n" + "".join(f"a{n};b{n};0,{n}5\n" for n in range(10))
    )
    done = run(input="a.csv", task="embedding")
    assert {row["score"] for row in done.all_rows} == {float(f"0.{n}5") for n in range(10)}


@pytest.mark.parametrize("values", [[None] * 9000 + [1], [1] * 9000 + [1.5], [None] * 9000 + ["x"]])
def test_parquet_columns_whose_type_only_later_rows_show(run, write, values) -> None:
    rows = [{"text": f"t{n}", "label": "ab"[n % 2], "more": v} for n, v in enumerate(values)]
    write("a.jsonl", "\n".join(map(json.dumps, rows)))
    done = run(input="a.jsonl", columns={"keep": ["more"]}, output_format="parquet",
               split={"train": 1, "validation": 0, "test": 0})  # fmt: skip
    columns = {
        row["text"]: row["more"]
        for row in pq.read_table(done.report.splits["train"].path).to_pylist()
    }
    assert columns == {row["text"]: row["more"] for row in rows}


def test_values_that_no_parquet_column_can_hold_together(run, write) -> None:
    rows = [{"text": f"t{n}", "label": "ab"[n % 2], "more": v} for n, v in enumerate([1, "x"] * 5)]
    write("a.jsonl", "\n".join(map(json.dumps, rows)))
    with pytest.raises(UserInputError, match=r"data\.output_format.*more"):
        run(input="a.jsonl", columns={"keep": ["more"]}, output_format="parquet")


def test_grades_are_told_and_equal_texts_of_other_numbers_conflict(run, write) -> None:
    lines = [f"text {n},{n % 4 + 1}" for n in range(40)] + ["Text 0,4", "text 1,2.0", "far,1e9x"]
    write("a.csv", "text,label\n" + "\n".join(lines) + "\n")
    done = run(input="a.csv", task="regression")
    assert done.report.rejected == {"conflicting_labels": 2, "duplicate": 1, "invalid_label": 1}
    assert done.report.labels == []
    (note,) = [note for note in done.report.notes if "number from" in note]
    assert "from 1 to 4, on average" in note
    assert "2 (11 rows)" in note
    assert {type(row["label"]) for row in done.all_rows} == {float}
    write("b.csv", "text,label\n" + "".join(f"text {n},3\n" for n in range(40)))
    with pytest.raises(UserInputError, match="the same label"):
        run(input="b.csv", task="regression")
