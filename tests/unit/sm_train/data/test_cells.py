"""One table gives the same rows from CSV, TSV, JSON Lines, JSON and Parquet."""

from __future__ import annotations

import csv
import datetime
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sm_train.config import parse_config
from sm_train.contract import Paths
from sm_train.data.cells import nested
from sm_train.data.channels import load_data
from sm_train.errors import UserError

TEXTS = st.text("abcdefg ,\"'\n", min_size=1, max_size=8).map(lambda text: f"x{text}x")
KINDS: dict[str, st.SearchStrategy[Any]] = {
    "whole": st.integers(-(2**60), 2**60),
    "number": st.floats(allow_nan=False, allow_infinity=False, width=32).map(float),
    "flag": st.booleans(),
    "words": st.lists(TEXTS, min_size=1, max_size=3),
    "day": st.dates().map(datetime.date.isoformat),
    "note": TEXTS,
}
TABLES = st.lists(
    st.fixed_dictionaries(
        {"prompt": TEXTS | st.sampled_from(["7", "1.50", "true", "007", "[1]"])},
        optional={name: st.none() | kind for name, kind in KINDS.items()},
    ),
    min_size=1,
    max_size=4,
)


def as_csv(file: Path, rows: list[dict[str, Any]], delimiter: str = ",") -> None:
    with file.open("w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        for row in rows:
            cells = {k: json.dumps(v) if isinstance(v, list | bool) else v for k, v in row.items()}
            writer.writerow({k: repr(v) if isinstance(v, float) else v for k, v in cells.items()})


def write(name: str, folder: Path, rows: list[dict[str, Any]]) -> None:
    file = folder / name
    if name.endswith(".csv"):
        as_csv(file, rows)
    elif name.endswith(".tsv"):
        as_csv(file, rows, "\t")
    elif name.endswith(".jsonl"):
        file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    elif name.endswith(".json"):
        file.write_text(json.dumps(rows), encoding="utf-8")
    else:
        pq.write_table(pa.Table.from_pylist(rows), file)


def read(paths: Paths, name: str, rows: list[dict[str, Any]], **given: Any) -> list[dict[str, Any]]:
    folder = paths.channels / "train"
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    write(name, folder, rows)
    return load_data(paths, parse_config(given)).train


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(TABLES)
def test_a_table_gives_equal_rows_in_every_format(paths: Paths, rows: list[dict[str, Any]]) -> None:
    rows = [{name: row.get(name) for name in ("prompt", *KINDS)} for row in rows]
    online = {"method": "grpo", "reward_funcs": "length"}
    expected = read(paths, "a.jsonl", rows, **online)
    assert expected == rows
    for name in ("a.csv", "a.tsv", "a.json", "a.parquet"):
        assert read(paths, name, rows, **online) == expected


@pytest.mark.parametrize(
    ("settings", "rows"),
    [
        (
            {"method": "kto"},
            [{"prompt": "1", "completion": "2.50", "label": i == 0} for i in range(3)],
        ),
        (
            {"method": "reward"},
            [{"prompt": "q", "chosen": "y", "rejected": "n", "margin": m} for m in (1.5, 2.0)],
        ),
        (
            {"method": "embedding"},
            [{"sentence1": "1", "sentence2": "2", "score": s} for s in (0.5, 1)],
        ),
        ({"method": "text-classification"}, [{"text": "7", "label": n} for n in (1, 2, 2)]),
        ({"method": "text-classification"}, [{"text": "a", "label": n} for n in (1.0, 2.0)]),
        ({"method": "text-classification"}, [{"text": "a", "label": n} for n in (True, False)]),
        (
            {"method": "text-classification", "num_labels": "1"},
            [{"text": "a", "label": n} for n in (1.0, 2.5)],
        ),
        (
            {"method": "token-classification", "labels": "O,B"},
            [{"tokens": ["1", "b"], "tags": [0, 1]}, {"tokens": ["c"], "tags": [1]}],
        ),
        ({"method": "sft"}, [{"input_ids": [1, 2], "labels": [-100, 2]}]),
        ({"method": "sft", "prompt_template": "{a}/{b}"}, [{"a": 7, "b": 0.5, "completion": "x"}]),
    ],
)
def test_csv_and_json_lines_are_the_same_job(
    paths: Paths, settings: dict[str, Any], rows: list[dict[str, Any]]
) -> None:
    expected = read(paths, "a.jsonl", rows, **settings)
    for name in ("a.csv", "a.tsv", "a.parquet"):
        assert read(paths, name, rows, **settings) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (",text,label\n0,fine,a\n1,dull,b\n", None),
        ("Unnamed: 0,text,label\n0,fine,a\n1,dull,b\n", None),
        ("text,label,text\nfine,a,x\ndull,b,y\n", "several columns of the same name: 'text'"),
        ("text,label\nfine,0.5\ndull,1.25\n", "problem_type to regression"),
    ],
)
def test_what_csv_brings_along(paths: Paths, channel: Any, text: str, message: str | None) -> None:
    channel("train", text, "a.csv")
    config = parse_config({"method": "text-classification"})
    if message is None:
        data = load_data(paths, config)
        assert data.train == [{"text": "fine", "label": "a"}, {"text": "dull", "label": "b"}]
        return
    with pytest.raises(UserError, match=message):
        load_data(paths, config)


def test_codes_are_no_numbers(paths: Paths) -> None:
    rows = [{"prompt": "a", "zip": "01234"}, {"prompt": "b", "zip": "90210"}]
    online = {"method": "grpo", "reward_funcs": "length"}
    assert read(paths, "a.csv", rows, **online) == rows


def test_lists_as_python_and_numpy_print_them() -> None:
    assert nested("['it''s', 'b']".replace("''", "\\'")) == ["it's", "b"]
    assert nested("[{'role': 'user', 'content': None}]") == [{"role": "user", "content": None}]
    for text in ("['a' 'b']", "[1 2]", "hello", "['a'\n 'b']"):
        with pytest.raises(ValueError, match="JSON"):
            nested(text)


def test_parquet_kinds_that_json_lacks(paths: Paths) -> None:
    import decimal

    folder = paths.channels / "train"
    folder.mkdir()
    row = {
        "prompt": "a",
        "day": datetime.date(2024, 1, 2),
        "at": datetime.datetime(2024, 1, 2, 3, 4, 5),
        "price": decimal.Decimal("1.50"),
        "raw": b"bytes",
        "missing": float("nan"),
    }
    pq.write_table(pa.Table.from_pylist([row]), folder / "a.parquet")
    config = parse_config({"method": "grpo", "reward_funcs": "length"})
    assert load_data(paths, config).train == [
        {
            "prompt": "a",
            "day": "2024-01-02",
            "at": "2024-01-02 03:04:05",
            "price": 1.5,
            "raw": "bytes",
            "missing": None,
        }
    ]
