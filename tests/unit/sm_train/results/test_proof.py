"""The table of two models, and when the second is refused."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sm_train.errors import UserError
from sm_train.methods import METHODS, load_method
from sm_train.results.proof import Proof, card, deciding, qualities, text_table

COSTS = {
    "bytes": 90e6,
    "memory_bytes": 120e6,
    "latency_p50_ms": 4.0,
    "latency_p99_ms": 9.0,
    "texts_per_second": 100.0,
}
PROOF = Proof(
    precision="int8",
    how="Weights in int8.",
    metric="accuracy",
    max_drop=0.005,
    split="test",
    rows=200,
    before={**COSTS, "accuracy": 0.9, "loss": 0.3},
    after={**COSTS, "bytes": 30e6, "texts_per_second": 180.0, "accuracy": 0.898, "loss": 0.31},
    processor="a processor",
    threads=2,
)


def proof(before: float, after: float, metric: str = "accuracy", most: float = 0.005) -> Proof:
    return dataclasses.replace(
        PROOF, metric=metric, max_drop=most, before={metric: before}, after={metric: after}
    )


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.booleans())
def test_worse_than_allowed_is_refused_whichever_way_the_metric_goes(
    before: float, after: float, most: float, lower: bool
) -> None:
    made = proof(before, after, "loss" if lower else "accuracy", most)
    worse = after - before if lower else before - after
    assert made.drop == worse
    if worse <= most:
        made.require()
        return
    with pytest.raises(UserError) as refused:
        made.require()
    assert (refused.value.field, refused.value.value) == ("max_drop", most)
    assert all(f"{value:.4f}" in str(refused.value) for value in (before, after))


def test_what_is_no_number_is_refused_and_is_null_in_json() -> None:
    made = proof(0.9, float("nan"))
    with pytest.raises(UserError):
        made.require()
    assert json.loads(json.dumps(made.as_dict(), allow_nan=False))["after"] == {"accuracy": None}


def test_the_table_has_every_figure_of_both() -> None:
    lines = text_table(PROOF.lines())
    assert lines[0].split() == ["before", "after", "change"]
    assert "size, MB               90.0    30.0   x 0.33" in lines
    assert "throughput, texts/s   100.0   180.0   x 1.80" in lines
    assert "accuracy             0.9000  0.8980  -0.0020" in lines
    assert len(lines) == 1 + len(PROOF.before)


def test_the_card_tells_how_it_was_made_and_keeps_the_former_one() -> None:
    text = card(
        PROOF,
        load_method("text-classification"),
        "mine",
        "---\ntags: [x]\n---\n\n# Trained\n\nWell.",
    )
    assert "Weights in int8." in text
    assert "| accuracy | 0.9000 | 0.8980 | -0.0020 |" in text
    assert "\n## Trained\n\nWell." in text
    assert "tags: [x]" not in text
    assert "bytes" not in text.partition("---\n")[2].partition("---\n")[0]  # of the front matter


def test_each_task_has_metrics_and_one_that_is_not_there_is_refused() -> None:
    known = qualities({"test_f1": 0.5, "test_runtime": 1.0, "test_loss": 2.0, "eval_f1": 0.1})
    assert known == {"f1": 0.5, "loss": 2.0}
    assert {load_method(name).answers for name in METHODS if load_method(name).judged_by} <= {
        "none",
        "taught",
    }
    method = load_method("token-classification")
    assert deciding(method, None, known) == "f1"
    assert deciding(method, "loss", known) == "loss"
    with pytest.raises(UserError, match="choose one of f1, loss"):
        deciding(method, "accuracy", known)
