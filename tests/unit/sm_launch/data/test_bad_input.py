"""Each failure names field, value and fix, and changes nothing."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from sm_launch.data import DataConfig
from sm_launch.errors import UserInputError


@pytest.mark.parametrize(
    ("text", "data", "message"),
    [
        ("", {}, ["data.input", "empty"]),
        ("text,label\n", {}, ["data.input", "no rows", "header: false"]),
        ("txt,label\na,b\n", {}, ["data.columns.text", "did you mean 'txt'?"]),
        ("text/label\na/b\n", {}, ["data.columns", "data.delimiter"]),
        ("text,label,text\na,b,c\n", {}, ["stand twice", "text", "raw.csv"]),
        ("a,b\nc,d\n", {"columns": {"text": 5}}, ["data.columns.text", "0 to 1", "5"]),
        ("text,label\na,x\nb,x\nc,x\n", {}, ["data.columns.label", "same label", "'x'"]),
        (
            "text,label\n" + "a1,x\na2,x\na3,x\na4,x\nb,y\n",
            {},
            ["data.columns.label", "too few", "'y'", "data.label_map"],
        ),
        (
            "text,label\na,x\nb,y\n",
            {"labels": ["x", "y", "z"]},
            ["data.labels", "no row has this label", "'z'"],
        ),
        ("text,label\na,x\nb,y\n", {"labels": ["p", "q"]}, ["unknown_label: 2", "row 1"]),
        ("text,label\n,x\nb,y\n", {"missing": {"policy": "fail"}}, ["data.missing.policy"]),
        ("text,label\na,x\na,y\n", {"duplicates": {"conflicting": "fail"}}, ["conflicting"]),
        ("text,label\na,x\n", {"encoding": "utf-7000"}, ["data.encoding", "utf-7000"]),
    ],
)
def test_data_at_fault(run, write, tmp_path: Path, text, data: dict[str, Any], message) -> None:
    write("raw.csv", text)
    with pytest.raises(UserInputError) as caught:
        run(input="raw.csv", **data)
    for word in message:
        assert word in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_labels_that_look_like_text(run, write) -> None:
    write("raw.csv", "text,label\n" + "".join(f"t{n},words of row {n}\n" for n in range(60)))
    with pytest.raises(UserInputError, match="looks like text"):
        run(input="raw.csv")


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("missing.csv", ["no such file", "reviews.csv"]),
        ("reviews.xlsx", ["unknown", "data.format"]),
        ("http://host/x.csv", ["http://", "s3://"]),
        ("folder", ["no data file"]),
        ("broken.parquet", ["not a Parquet file"]),
        ("broken.json", ["not valid JSON", "an object on each line"]),
    ],
)
def test_files_at_fault(run, write, reviews: Path, tmp_path: Path, location, message) -> None:
    (tmp_path / "folder").mkdir()
    write("reviews.xlsx", "x")
    write("broken.parquet", "PAR1")
    write("broken.json", '[{"text": ')
    with pytest.raises(UserInputError) as caught:
        run(input=location)
    for word in ["data.input", location, *message]:
        assert word in str(caught.value)


def test_an_unseen_test_label(run, write) -> None:
    write("train.csv", "text,label\n" + "".join(f"t{n},{'ab'[n % 2]}\n" for n in range(20)))
    write("test.csv", "text,label\nx,c\n")
    with pytest.raises(UserInputError, match=r"data\.test.*'c'"):
        run(train="train.csv", test="test.csv")


def test_output_with_foreign_files_is_refused(run, reviews: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("precious")
    with pytest.raises(UserInputError, match=r"thesis\.txt"):
        run(input="reviews.csv")
    assert (tmp_path / "out" / "thesis.txt").read_text() == "precious"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "either input"),
        ({"input": "a.csv", "train": "b.csv"}, "either input"),
        ({"input": "a.csv", "test": "b.csv"}, "go with train"),
        ({"input": "a.csv", "split": {"train": 0.8}}, None),
        ({"input": "a.csv", "split": {"train": 0.9}}, "add up to 1"),
        ({"input": "a.csv", "split": {"train": 1.2, "test": -0.3}}, "between 0 and 1"),
        ({"input": "a.csv", "labels": ["a"]}, "at least two"),
        ({"input": "a.csv", "labels": ["a", "b"], "label_map": {"x": "c"}}, "'c'"),
        ({"input": "a.csv", "missing": {"text": "x"}}, "policy: fill"),
        ({"input": "a.csv", "typo": 1}, "Extra inputs"),
        ({"input": "a.csv", "task": "messages", "output_format": "csv"}, "cannot hold messages"),
    ],
)
def test_configuration_at_fault(data: dict[str, Any], message: str | None) -> None:
    if message is None:
        DataConfig.model_validate(data)
        return
    with pytest.raises(ValidationError, match=message):
        DataConfig.model_validate(data)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (random.Random(1).randbytes(3000), "text file"),
        (b"PAR1\x15\x04", "data.format: parquet"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1 sheet", "export it as CSV"),
        ("text\tlabel\na\tx\n".encode("utf-16-le"), "utf-16-le"),
    ],
)
def test_a_binary_file_is_named_so_and_not_printed(run, tmp_path: Path, content, message) -> None:
    (tmp_path / "junk.tsv").write_bytes(content)
    with pytest.raises(UserInputError, match="is not text, so it cannot be tsv") as caught:
        run(input="junk.tsv")
    assert message in str(caught.value)
    assert str(caught.value).isprintable() or str(caught.value).replace("\n", "").isprintable()


def test_a_stray_control_character_does_not_make_a_file_binary(run, reviews: Path) -> None:
    with reviews.open("a") as file:
        file.write("nul \x00 inside,pos\n")
    assert {"text": "nul inside", "label": "pos"} in run(input="reviews.csv").all_rows


def test_many_columns_are_not_all_listed(run, write) -> None:
    write("wide.csv", ",".join(["y" * 99, *(f"c{n}" for n in range(100))]) + "\n")
    with pytest.raises(UserInputError, match="c18 and 81 more") as caught:
        run(input="wide.csv")
    assert "y" * 31 not in str(caught.value)


def test_a_wrong_wide_encoding(run, write) -> None:
    write("odd.csv", "text,label\nabc,x\n")
    with pytest.raises(UserInputError, match=r"data\.encoding.*utf-16"):
        run(input="odd.csv", encoding="utf-16-le")


def test_a_damaged_parquet_file(run, tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    rows = [{"text": f"text {n}", "label": "ab"[n % 2]} for n in range(2000)]
    pq.write_table(pa.Table.from_pylist(rows), path)
    content = bytearray(path.read_bytes())
    content[4:200] = bytes([255]) * 196
    path.write_bytes(content)
    with pytest.raises(UserInputError, match=r"data\.input.*damaged"):
        run(input="rows.parquet")
