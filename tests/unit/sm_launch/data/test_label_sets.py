"""Rows that have any number of labels, from raw files to channels."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sm_launch.data.guess import guess
from sm_launch.data.label_sets import by_labels
from sm_launch.errors import UserInputError
from sm_launch.job.config import JobConfig

SHARES = (0.8, 0.1, 0.1)
PARTS = ["sport", "money", "health"]
TASK = {"task": "multi-label-classification"}


def rows(count: int = 90) -> list[dict[str, Any]]:
    """Row n has the labels that its number in binary has; every eighth has none."""
    return [
        {"text": f"text number {n}", "label": [p for at, p in enumerate(PARTS) if n >> at & 1]}
        for n in range(count)
    ]


def jsonl(given: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in given)


@pytest.mark.slow
@given(
    st.lists(st.sets(st.integers(0, 3)), min_size=30, max_size=120),
    st.integers(0, 5),
    st.randoms(use_true_random=False),
)
def test_each_label_is_dealt_out_in_its_shares(
    sets: list[set[int]], seed: int, chance: Any
) -> None:
    distinct = sorted({tuple(sorted(each)) for each in sets})
    members = np.array([[at in each for at in range(4)] for each in distinct])
    codes = np.array([distinct.index(tuple(sorted(each))) for each in sets], dtype=np.int32)
    keys = np.arange(len(sets), dtype=np.uint64) * 7919
    dealt = by_labels(keys, codes, members, SHARES, seed)
    order = np.array(chance.sample(range(len(sets)), len(sets)))
    assert (by_labels(keys[order], codes[order], members, SHARES, seed) == dealt[order]).all()
    twice = by_labels(np.repeat(keys, 2), np.repeat(codes, 2), members, SHARES, seed)
    assert (twice[::2] == twice[1::2]).all()
    table = members[codes]
    for label in range(4):
        inside = dealt[table[:, label]]
        if len(inside):
            assert (inside == 0).any()
        if 0 < len(inside) < 3:
            assert (inside == 0).all()


def test_independent_labels_keep_their_shares() -> None:
    chance = np.random.default_rng(0)
    table = chance.random((2000, 5)) < [0.5, 0.3, 0.1, 0.02, 0.005]
    members, codes = np.unique(table, axis=0, return_inverse=True)
    keys = np.arange(2000, dtype=np.uint64)
    dealt = by_labels(keys, codes.astype(np.int32), members, SHARES, 1)
    for part, share in enumerate(SHARES):
        inside = table[dealt == part]
        assert abs(len(inside) - 2000 * share) < 20
        assert (abs(inside.sum(axis=0) - table.sum(axis=0) * share) <= 2).all()


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_lists_come_out_as_lists(suffix: str, run: Any, write: Any, tmp_path: Any) -> None:
    if suffix == "csv":
        write("in.csv", "text,label\n" + "".join(
            f"{row['text']},\"{json.dumps(row['label']).replace(chr(34), chr(34) * 2)}\"\n"
            for row in rows()
        ))  # fmt: skip
    else:
        write("in.jsonl", jsonl(rows()))
    source = "in.csv" if suffix == "csv" else "in.jsonl"
    made = run(input=source, output_format=suffix, **TASK)
    assert made.report.rows_kept == 90
    assert made.report.labels == sorted(PARTS)
    total = sum((Counter(split.labels) for split in made.report.splits.values()), Counter())
    assert total == Counter(label for row in rows() for label in row["label"])
    assert all(min(split.labels.values()) >= 3 for split in made.report.splits.values())
    assert "12 row(s) have no label" in made.report.notes
    if suffix == "jsonl":
        labels = {row["text"]: row["label"] for row in made.all_rows}
        assert labels == {row["text"]: row["label"] for row in rows()}
    if suffix == "parquet":
        import pyarrow.parquet as pq

        table = pq.read_table(made.report.splits["train"].path)
        assert str(table.schema.field("label").type) == "list<element: string>"


def test_what_is_no_list_of_labels_is_set_aside(run: Any, write: Any) -> None:
    bad = [
        ("sport|money", "invalid_label", "data.label_separator"),
        (None, "missing_label", "None"),
        ([1, 0, 1], "invalid_label", "stands twice"),
        ([["sport"]], "invalid_label", "a list in the list"),
        (["sport", None], "missing_label", "None"),
    ]
    strange = [{"text": f"bad {n}", "label": label} for n, (label, *_) in enumerate(bad)]
    write("in.jsonl", jsonl(rows() + strange))
    made = run(input="in.jsonl", **TASK)
    assert [(r["reason"], told in r["detail"]) for r, (_, _, told) in zip(
        made.rejected, bad, strict=True)] == [(reason, True) for _, reason, _ in bad]  # fmt: skip


def test_a_separator_is_taken_where_it_is_named(run: Any, write: Any) -> None:
    lines = [f"{row['text']},{' | '.join(row['label'])}" for row in rows()]
    write("in.csv", "text,label\n" + "\n".join(lines) + "\n")
    made = run(input="in.csv", label_separator="|", **TASK)
    labels = {row["text"]: row["label"] for row in made.all_rows}
    assert labels == {row["text"]: row["label"] for row in rows()}
    with pytest.raises(ValueError, match="multi_label_classification"):
        run(input="in.csv", label_separator="|")


def test_spellings_meet_and_equal_texts_count_once(run: Any, write: Any) -> None:
    more = [
        {"text": "TEXT number 1", "label": ["SPORT"]},
        {"text": "text  number 2", "label": ["health"]},
        {"text": "another", "label": ["Sport", "sport ", "MONEY"]},
    ]
    write("in.jsonl", jsonl(rows() + more))
    made = run(input="in.jsonl", **TASK)
    assert made.report.labels == sorted(PARTS)
    assert made.report.rejected == {"duplicate": 1, "conflicting_labels": 2}
    (row,) = [row for row in made.all_rows if row["text"] == "another"]
    assert row["label"] == ["sport", "money"]
    assert any("is also spelt" in note for note in made.report.notes)


def test_one_class_a_text_says_what_to_set(run: Any, write: Any) -> None:
    write("in.jsonl", jsonl(rows()))
    with pytest.raises(UserInputError, match="problem_type: multi_label_classification"):
        run(input="in.jsonl", max_rejected_share=0.1)


def test_job_yaml_says_it_once(write: Any, tmp_path: Any) -> None:
    path = write("in.jsonl", jsonl(rows()))
    assert guess("text-classification", str(path), tmp_path).hyperparameters == {
        "problem_type": "multi_label_classification"
    }
    training: dict[str, Any] = {"method": "text-classification", "model": "m"}
    several = {"hyperparameters": {"problem_type": "multi_label_classification"}}
    document = {"name": "j", "data": {"input": "in.jsonl"}, "training": training | several}
    config = JobConfig.model_validate(document)
    assert config.data is not None
    assert config.data.task == "multi-label-classification"
    for data, named in ((TASK, training), ({"task": "text-classification"}, training | several)):
        with pytest.raises(ValueError, match="problem_type"):
            JobConfig.model_validate(
                {"name": "j", "data": {"input": "in.jsonl"} | data, "training": named}
            )
