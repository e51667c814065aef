"""Rows in the forms in which public data sets are published, prepared by job.yaml alone."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from sm_launch.data import DataConfig
from sm_launch.errors import UserInputError

ALL = {"train": 1, "validation": 0, "test": 0}
STARS = ["1 star", "2 stars", "3 stars"]
TAGS = ["O", "B-PER", "I-PER"]


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def hub_files(folder: Path, rows: list[dict[str, Any]], **features: Any) -> tuple[str, str]:
    """The rows as the Hub has them, and as `save_to_disk` writes them."""
    from datasets import Dataset, Features, Value

    known = Features({"text": Value("string"), **features})
    made = Dataset.from_list(rows, features=known)
    made.to_parquet(str(folder / "hub.parquet"))
    made.save_to_disk(str(folder / "disk"))
    return "hub.parquet", "disk"


@pytest.mark.slow  # imports datasets
def test_class_ids_are_the_names_that_the_file_gives_them(tmp_path: Path, run) -> None:
    from datasets import ClassLabel

    rows = [{"text": f"t{n}", "label": n % 4 - 1} for n in range(40)]
    for location in hub_files(tmp_path, rows, label=ClassLabel(names=STARS)):
        done = run(input=location, split=ALL)
        # -1 is how `datasets` writes that a row has no label, and no class.
        assert done.report.rejected == {"missing_label": 10}
        assert Counter(row["label"] for row in done.all_rows) == dict.fromkeys(STARS, 10)
        by_id = run(input=location, split=ALL, label_map={0: "bad", 1: "fair", 2: "good"})
        assert by_id.report.labels == ["bad", "fair", "good"]
        numbers = run(input=location, split=ALL, task="regression")
        assert {row["label"] for row in numbers.all_rows} == {0, 1, 2}
        assert numbers.report.rejected == {"missing_label": 10}
        grades = dict(zip(STARS, (1, 2, 3), strict=True))
        mapped = run(input=location, split=ALL, task="regression", label_map=grades)
        assert {row["label"] for row in mapped.all_rows} == {1, 2, 3}


@pytest.mark.slow
def test_lists_of_class_ids_are_names_too(tmp_path: Path, run) -> None:
    from datasets import ClassLabel, Sequence, Value

    ids = [[1, 2, 0], [0], [1, 0], [2, -1]]
    rows = [
        {"text": f"t{n}", "tags": ids[n % 4], "tokens": [f"w{n}"] * len(ids[n % 4])}
        for n in range(40)
    ]
    features = {"tags": Sequence(ClassLabel(names=TAGS)), "tokens": Sequence(Value("string"))}
    for location in hub_files(tmp_path, rows, **features):
        done = run(input=location, split=ALL, task="token-classification")
        assert done.report.rejected == {"invalid_tags": 10}
        assert {tuple(row["tags"]) for row in done.all_rows} == {
            ("B-PER", "I-PER", "O"), ("O",), ("B-PER", "O"),
        }  # fmt: skip
        several = run(
            input=location, split=ALL, task="multi-label-classification", columns={"label": "tags"}
        )
        assert several.report.rejected == {"missing_label": 10}
        assert set(several.report.labels) == set(TAGS)


CONLL = """-DOCSTART- -X- -X- O

# id 1
Ann NNP I-NP B-PER
sees VBZ I-VP O
# NN I-NP O

Bob{n} NNP I-NP B-PER

off NNP O
Eve NNP I-NP B-PER


"""


def test_conll_files(run, write) -> None:
    text = CONLL.replace("Ann", "Ann{n}").replace("off", "off{n}")
    parts = "".join(text.replace("{n}", str(n)) for n in range(20))
    write("eng.train", parts)
    write("eng.txt", parts)
    for data in ({"input": "eng.train", "format": "conll"}, {"input": "eng.txt"}):
        done = run(**data, split=ALL, task="token-classification")
        assert done.report.rejected == {"malformed_row": 20}
        assert done.rejected[0]["line"] == 10
        assert done.rejected[0]["detail"] == "3 columns where other lines have 4"
        assert done.rows("train")[0] == {
            "tokens": ["Ann0", "sees", "#"],
            "tags": ["B-PER", "O", "O"],
        }
        assert done.report.rows_kept == 40
        assert "columns that are not read: 1, 2 " in done.report.notes[0]
    chunks = run(input="eng.txt", task="token-classification", columns={"tags": 2}, split=ALL)
    assert chunks.rows("train")[0]["tags"] == ["I-NP", "I-VP", "I-NP"]
    write("tabs.conll", "".join(f"New York{n}\tLOC\nis\tO\n\n" for n in range(20)))
    done = run(input="tabs.conll", task="token-classification", split=ALL)
    assert done.rows("train")[0] == {"tokens": ["New York0", "is"], "tags": ["LOC", "O"]}
    write("words.conll", "one\nword\n\na\nline\n")
    with pytest.raises(UserInputError, match="no second column with a tag"):
        run(input="words.conll", task="token-classification")


def test_tags_by_number_get_names(run, write) -> None:
    rows = [{"tokens": [f"w{n}", "x"], "tags": [n % 3, 0]} for n in range(30)]
    write("a.jsonl", lines([*rows, {"tokens": ["a"], "tags": [7]}]))
    names = {0: "O", 1: "B-PER", 2: "I-PER"}
    done = run(input="a.jsonl", task="token-classification", label_map=names, split=ALL)
    assert done.report.rejected == {"unknown_tag": 1}
    assert {tag for row in done.all_rows for tag in row["tags"]} == set(names.values())


def test_a_text_of_several_columns(run, write) -> None:
    write("a.csv", "".join(f'{n % 2},Title {n},"Body, {n}"\n' for n in range(30)) + "1,,Alone\n")
    columns = {"text": [1, 2], "label": 0}
    done = run(input="a.csv", header=False, columns=columns, split=ALL)
    texts = [row["text"] for row in done.all_rows]
    assert texts[0] == "Title 0 Body, 0"
    assert texts[-1] == "Alone"
    named = [{"title": f"T{n}", "body": f"B{n}", "label": n % 2} for n in range(30)]
    write("b.jsonl", lines(named))
    with pytest.raises(UserInputError, match="no such column") as caught:
        run(input="b.jsonl", columns={"text": ["title", "bodi"]})
    assert "did you mean 'body'" in str(caught.value)


def test_a_column_of_0_and_1_for_each_label(run, write) -> None:
    header = "id;comment;toxic;threat\n"
    body = "".join(f"{n};c{n};{n % 2};{n % 3 // 2}\n" for n in range(30))
    write("a.csv", header + body + "30;c30;-1;-1\n31;c31;;\n32;c32;1.0;False\n")
    columns = {"text": "comment", "label": ["toxic", "threat"]}
    done = run(input="a.csv", task="multi-label-classification", columns=columns, split=ALL)
    assert done.report.rejected == {"invalid_label": 1, "missing_label": 1}
    assert "toxic is neither 0 nor 1: '-1'" in done.rejected[0]["detail"]
    labels = {row["text"]: row["label"] for row in done.all_rows}
    assert labels["c0"] == []
    assert labels["c5"] == ["toxic", "threat"]
    assert labels["c32"] == ["toxic"]
    assert done.report.notes == [
        "columns that are not read: id (data.columns.keep carries them)", "10 row(s) have no label",
    ]  # fmt: skip


def test_grades_that_have_names(run, write) -> None:
    names = {"E": 3, "S": 1, "I": 0}
    rows = [{"query": f"q{n // 3}", "document": f"d{n}", "label": "ESI"[n % 3]} for n in range(30)]
    write("a.jsonl", lines([*rows, {"query": "q", "document": "d", "label": "?"},
                            {"query": "q", "document": "e", "label": 2}]))  # fmt: skip
    done = run(input="a.jsonl", task="reranking", label_map=names, split=ALL)
    assert done.report.rejected == {"missing_label": 1}
    (note,) = [note for note in done.report.notes if "number from" in note]
    assert note.endswith("0 (10 rows), 1 (10 rows), 2 (1 rows), 3 (10 rows)")
    assert Counter(row["label"] for row in done.all_rows) == {3.0: 10, 1.0: 10, 0.0: 10, 2.0: 1}


PASSAGES = {"passage_text": ["a", "b", "a"], "is_selected": [0, 1, 0]}


@pytest.mark.parametrize(
    ("row", "columns", "expected"),
    [
        ({"query": "q", "documents": ["a", "b"], "labels": "[0, 1.5]"},
         {"document": "documents", "label": "labels"}, [("a", 0), ("b", 1.5)]),
        ({"query": "q", "passages": PASSAGES},
         {"document": "passages.passage_text", "label": "passages.is_selected"},
         [("a", 0), ("b", 1)]),
        ({"query": "q", "positive": "a", "negative_1": "b", "negative_2": None}, {},
         [("a", 1), ("b", 0)]),
        ({"query": "q", "pos": ["a", "b"], "neg": ["c"]}, {"positive": "pos", "negative": "neg"},
         [("a", 1), ("b", 1), ("c", 0)]),
    ],
)  # fmt: skip
def test_a_query_with_all_of_its_documents(run, write, row, columns, expected) -> None:
    write("a.jsonl", lines([row | {"query": f"q{n}"} for n in range(9)]))
    done = run(input="a.jsonl", task="reranking", columns=columns, split={"group": "query"})
    queries: dict[str, list[tuple[str, float]]] = {}
    for each in done.all_rows:
        assert each.keys() == {"query", "document", "label"}
        queries.setdefault(each["query"], []).append((each["document"], each["label"]))
    assert queries == {f"q{n}": expected for n in range(9)}
    assert not [note for note in done.report.notes if "not read" in note]


def test_documents_without_a_label_each_are_set_aside(run, write) -> None:
    rows = [{"query": f"q{n}", "document": ["a", "b"], "label": [0, 1]} for n in range(9)]
    write("a.jsonl", lines([*rows, {"query": "x", "document": ["a", "b"], "label": [1]}]))
    done = run(input="a.jsonl", task="reranking", split=ALL)
    assert done.report.rows_kept == 18
    (rejected,) = done.rejected
    assert (rejected["row"], rejected["reason"]) == (10, "invalid_document")
    write("a.tsv", "".join(f"q{n}\tgood {n}\tbad {n}\n" for n in range(9)) + "q9\t\tbad\n")
    columns = {"query": 0, "positive": 1, "negative": 2}
    done = run(input="a.tsv", header=False, task="reranking", columns=columns, split=ALL)
    assert done.report.rejected == {"missing_document": 1}
    assert done.report.rows_kept == 19


def test_splits_of_rows_without_names_in_one_file(run, write) -> None:
    """CLINC150's file: each split under its name, each row a list of text and intent."""
    parts = {"train": range(30), "val": range(30, 40), "test": range(40, 50), "oos_train": [60]}
    made = {name: [[f"t{n}", "ab"[n % 2]] for n in part] for name, part in parts.items()}
    write("data_full.json", json.dumps(made))
    columns = {"text": 0, "label": 1}
    with pytest.raises(UserInputError, match="holds splits that somebody made") as caught:
        run(input="data_full.json", columns=columns)
    assert "data.validation: data_full.json" in str(caught.value)
    splits = dict.fromkeys(("train", "validation", "test"), "data_full.json")
    done = run(**splits, columns=columns)
    assert [row["text"] for row in done.rows("test")] == [f"t{n}" for n in parts["test"]]
    assert done.report.rows_kept == 50
    assert "parts of no split, which are not read: oos_train (1 rows)" in done.report.notes


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"task": "dpo", "labels": ["a", "b"]}, "labels has no meaning for dpo"),
        ({"task": "embedding", "label_map": {"a": 1}}, "label_map has no meaning for embedding"),
        ({"task": "regression", "labels": [1, 2]}, "labels has no meaning for regression"),
        ({"columns": {"label": ["a", "b"]}}, "only where a text has several labels"),
        ({"columns": {"text": []}}, "at least 1 item"),
    ],
)
def test_what_a_task_has_no_use_for_is_refused(data: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DataConfig.model_validate({"input": "a.csv", **data})


def test_tags_that_stand_before_their_words(run, write) -> None:
    """As in the MIT corpora of restaurants and movies."""
    sentence = "O\twhat\nB-ACTOR\tann{n}\nI-ACTOR\tberg\n\n"
    write("train.bio", "".join(sentence.format(n=n) for n in range(12)))
    done = run(input="train.bio", task="token-classification", split=ALL)
    assert done.all_rows[0]["tokens"][0] == "what"
    assert done.all_rows[0]["tags"] == ["O", "B-ACTOR", "I-ACTOR"]


def test_conversations_that_are_lists_of_texts(run, write) -> None:
    """As in LIMA; the same to the training container."""
    from sm_train.data.messages import conversation

    rows = [{"conversations": [f"say {n}", f"w{n}"]} for n in range(12)]
    odd = {"conversations": ["say", "w", "say more"]}
    write("train.jsonl", lines([*rows, odd]))
    done = run(
        input="train.jsonl", task="sft", columns={"messages": "conversations"}, split=ALL,
        max_rejected_share=0.2,
    )  # fmt: skip
    messages = [{"role": "user", "content": "say 0"}, {"role": "assistant", "content": "w0"}]
    assert messages in [row["messages"] for row in done.all_rows]
    assert done.report.rejected == {"invalid_messages": 1}
    assert conversation(rows[0]["conversations"], "conversations") == messages
    with pytest.raises(ValueError, match="not a list of messages"):
        conversation(["w0"], "completion")


def test_answers_without_a_text_are_set_aside(run, write) -> None:
    """NewsQA's column of validated answers holds ranges of characters and votes."""
    good = [{"question": f"q{n}", "context": f"a{n} b", "answers": f"a{n}"} for n in range(10)]
    others: list[Any] = ['{"3:5": 2}', {"none": 3}, [{"answer": "a"}]]
    bad = [{"question": f"r{n}", "context": "a b", "answers": a} for n, a in enumerate(others)]
    write("train.jsonl", lines([*good, *bad]))
    done = run(input="train.jsonl", task="question-answering", split=ALL, max_rejected_share=0.5)
    assert done.report.rejected == {"invalid_answers": 3}
    assert len(done.all_rows) == 10


@pytest.mark.parametrize(
    ("files", "fix"),
    [
        (("train/pos/0_9.txt", "test/neg/0_2.txt"), "data.test: set/test, data.train: set/train"),
        (("dev.jsonl", "train.jsonl"), "data.validation: set/dev.jsonl, data.train: set/train.jso"),
    ],
)
def test_splits_in_folders_are_named_whole(run, write, files, fix: str, tmp_path: Path) -> None:
    for file in files:
        (tmp_path / "set" / file).parent.mkdir(parents=True, exist_ok=True)
        write(f"set/{file}", "text\n")
    with pytest.raises(UserInputError) as refused:
        run(input="set")
    assert fix in str(refused.value.fix)


@pytest.mark.parametrize(
    ("files", "columns"),
    [
        (("de-en.de", "de-en.en"), {"source": "de", "target": "en"}),
        (("train.source", "train.target"), {}),
        (("train_text.txt", "train_labels.txt"), {"source": "text", "target": "labels"}),
    ],
)  # fmt: skip
def test_files_whose_lines_belong_together(run, write, files, columns) -> None:
    """As OPUS, fairseq and tweet_eval publish them."""
    for name in files:
        write(name, "".join(f"{'b' if name == files[0] else 'c'} {n}\n" for n in range(12)))
    write("README.md", "a corpus\n")
    told = {"task": "seq2seq", "format": "aligned", "split": ALL, "columns": columns}
    done = run(input=files[0], **told)
    assert {"source": "b 1", "target": "c 1"} in done.all_rows and len(done.all_rows) == 12
    write(files[1], "c\n")
    with pytest.raises(UserInputError, match=f"{files[0]} has 12, {files[1]} has 1"):
        run(input=files[0], **told)
    with pytest.raises(UserInputError, match="has no file beside it"):
        run(input="README.md", **told)
    with pytest.raises(UserInputError, match="the files beside it are read, too"):
        run(input="s3://bucket/train.de", **told)


def test_judgements_of_queries_and_documents(run, write, tmp_path: Path) -> None:
    """BEIR's form; one judgement names a document that is not there."""
    (tmp_path / "set" / "qrels").mkdir(parents=True)
    corpus = [{"_id": f"d{n}", "title": "", "text": f"about {n}"} for n in range(12)]
    corpus[0]["title"] = "First"
    write("set/corpus.jsonl", lines(corpus))
    write("set/queries.jsonl", lines([{"_id": f"q{n}", "text": f"what is {n}"} for n in range(12)]))
    judged = "".join(f"q{n}\td{n}\t1\nq{n}\td{(n + 1) % 12}\t0\n" for n in range(12))
    write("set/qrels/train.tsv", f"query-id\tcorpus-id\tscore\n{judged}q1\tnone\t1\n")
    told = {"input": "set/qrels/train.tsv", "format": "beir", "split": ALL}
    graded = run(task="reranking", **told)
    assert graded.report.rejected == {"missing_document": 1}
    assert {"query": "what is 0", "document": "First\n\nabout 0", "label": 1} in graded.all_rows
    assert len(graded.all_rows) == 24
    pairs = run(task="embedding", **told)
    assert {"anchor": "what is 3", "positive": "about 3"} in pairs.all_rows
    assert len(pairs.all_rows) == 12
    with pytest.raises(UserInputError) as refused:
        run(input="set", task="reranking")
    assert "data.train: set/qrels/train.tsv" in str(refused.value.fix)
    with pytest.raises(UserInputError, match="which sft does not learn from"):
        run(task="sft", **told)
    with pytest.raises(UserInputError, match=r"is no file qrels/SPLIT\.tsv"):
        run(input="set/corpus.jsonl", task="embedding", format="beir")


def test_answers_by_their_places_are_no_preferences(run, write) -> None:
    """SHP and PKU-SafeRLHF say in a column of its own which of two answers is the better one."""
    row = {"history": "q", "human_ref_A": "a", "human_ref_B": "b"}
    told = {"prompt": "history", "chosen": "human_ref_A", "rejected": "human_ref_B"}
    write("votes.jsonl", lines([row | {"labels": n % 2} for n in range(12)]))
    with pytest.raises(UserInputError, match="which of both is preferred stands in labels"):
        run(input="votes.jsonl", task="dpo", columns=told, split=ALL)
    write("sorted.jsonl", lines([row | {"history": f"q{n}"} for n in range(12)]))
    assert len(run(input="sorted.jsonl", task="dpo", columns=told, split=ALL).all_rows) == 12
