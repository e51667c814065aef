"""The model card's front matter, read as the Hub reads it."""

from __future__ import annotations

import pytest
import yaml
from huggingface_hub import ModelCardData

from sm_train.methods import METHODS, load_method
from sm_train.results.export import card_metadata

RESULTS = {
    "test_accuracy": 0.5,
    "test_loss": float("nan"),
    "test_runtime": 2.0,
    "test_samples_per_second": 9.0,
    "eval_accuracy": 0.75,
}


def test_measures_of_the_test_rows_are_the_model_index() -> None:
    document = yaml.safe_load(
        card_metadata(load_method("text-classification"), "org/base", "mine", RESULTS)
    )
    assert document["base_model"] == "org/base"
    (index,) = document["model-index"]
    assert index["name"] == "mine"
    (result,) = index["results"]
    assert result["task"]["type"] == "text-classification"
    assert result["metrics"] == [{"type": "accuracy", "value": 0.5}]
    (read,) = ModelCardData(**document).eval_results
    assert (read.dataset_split, read.metric_type, read.metric_value) == ("test", "accuracy", 0.5)


@pytest.mark.parametrize("base", [None, "/opt/ml/input/data/model"])
def test_without_measures_there_is_no_index(base: str | None) -> None:
    document = yaml.safe_load(
        card_metadata(load_method("embedding"), base, "mine", {"eval_loss": 1.0})
    )
    assert document == {
        "library_name": "sentence-transformers",
        "pipeline_tag": "sentence-similarity",
        "tags": ["embedding"],
    }


@pytest.mark.parametrize("base", ["yes", "1.5", "a: b", "null", "org/ünïcode", "x#y"])
def test_every_base_stays_what_it_is(base: str) -> None:
    assert yaml.safe_load(card_metadata(load_method("sft"), base, "mine", {}))["base_model"] == base


def test_every_method_has_a_task_of_the_hub() -> None:
    for name in (each for each in METHODS if load_method(each).trains):
        card = yaml.safe_load(card_metadata(load_method(name), None, "mine", {}))
        assert (card["pipeline_tag"] == "text-generation") is (
            load_method(name).answers not in ("none", "scored")
        )
