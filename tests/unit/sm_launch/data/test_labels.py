from __future__ import annotations

from typing import Any

import pytest

from sm_launch.data.labels import LabelReader
from sm_launch.job.data import DataConfig


def reader(**data: Any) -> LabelReader:
    return LabelReader(DataConfig.model_validate({"input": "x.csv"} | data))


@pytest.mark.parametrize("raw", ["Positive", " POSITIVE ", "pos", "Pos", "ＰＯＳ"])
def test_spellings_meet(raw: str) -> None:
    labels = reader(label_map={"pos": "positive", "neg": "negative"})
    assert labels.read(raw) == "positive"
    assert labels.allowed == ["positive", "negative"]


@pytest.mark.parametrize("raw", [0, "0", 0.0, "0.0", " 0 "])
def test_numbers_and_their_text_are_the_same_label(raw: object) -> None:
    assert reader(label_map={0: "negative", 1: "positive"}).read(raw) == "negative"


def test_unknown_label_is_none_only_where_labels_are_declared() -> None:
    assert reader(labels=["a", "b"]).read("c") is None
    assert reader(label_map={"a": "x", "b": "y"}).read("c") is None
    assert reader().read("  C ") == "C"


def test_declared_labels_keep_their_spelling() -> None:
    assert reader(labels=["Refund", "Order Status"]).read("order  status") == "Order Status"


def test_case_can_matter() -> None:
    labels = reader(labels=["US", "us"], normalise_labels=False)
    assert [labels.read("US"), labels.read("us"), labels.read("Us")] == ["US", "us", None]


def test_booleans() -> None:
    assert reader(label_map={True: "spam", False: "ham"}).read(True) == "spam"
