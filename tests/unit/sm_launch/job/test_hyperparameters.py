"""Hyperparameters are checked on the laptop: typos get suggestions, without torch."""

from __future__ import annotations

from itertools import cycle
from pathlib import Path

import pytest

from sm_launch.errors import UserInputError
from sm_launch.job.config import load_config
from sm_launch.job.hyperparameters import (
    _schema,
    check_hyperparameters,
    methods,
    metric_definitions,
)


def test_the_two_first_methods_are_there() -> None:
    assert {"text-classification", "sft"} <= set(methods())


@pytest.mark.parametrize("method", ["text-classification", "sft"])
def test_good_values_pass(method: str) -> None:
    check_hyperparameters(
        method, {"num_train_epochs": 2, "learning_rate": 3e-5, "use_peft": True, "seed": 3}
    )


def test_all_problems_are_told_with_suggestions() -> None:
    with pytest.raises(UserInputError) as caught:
        check_hyperparameters(
            "text-classification", {"learning_rte": 1e-5, "num_train_epochs": "many"}
        )
    assert "2 problem(s)" in str(caught.value)
    assert "did you mean 'learning_rate'?" in str(caught.value)
    assert "num_train_epochs" in str(caught.value)


@pytest.mark.parametrize(
    ("said", "meant"),
    [("epochs", "num_train_epochs"), ("lr", "learning_rate"), ("lora_rank", "lora_r")],
)
def test_names_of_other_tools_are_known(said: str, meant: str) -> None:
    with pytest.raises(UserInputError, match=f"did you mean '{meant}'"):
        check_hyperparameters("sft", {said: 1})


def test_a_switch_that_a_method_cannot_turn_on_says_why() -> None:
    for method in methods():
        if "shuffle_buffer_size" in _schema(method)["properties"]:
            check_hyperparameters(method, {"streaming": True})
            continue
        with pytest.raises(
            UserInputError,
            match=r"streaming: True: .*text-classification and token-classification can\. R",
        ):
            check_hyperparameters(method, {"streaming": True})


def test_unknown_method_gets_a_suggestion() -> None:
    with pytest.raises(UserInputError, match="did you mean 'text-classification'"):
        check_hyperparameters("text-clasification", {})


def test_sagemakers_length_limit() -> None:
    with pytest.raises(UserInputError, match="SageMaker takes 2500"):
        check_hyperparameters("sft", {"chat_template_path": "x" * 2501})


def test_metric_definitions_fit_sagemaker() -> None:
    sets = {name: metric_definitions(name) for name in methods()}
    sets["script"] = metric_definitions("sft", {"sagemaker_program": "train.py"})
    for definitions in sets.values():
        assert 0 < len(definitions) <= 40
        assert all(len(d["Name"]) <= 255 and len(d["Regex"]) <= 500 for d in definitions)
        assert all(set(d) == {"Name", "Regex"} for d in definitions)
    names = {method: {d["Name"] for d in definitions} for method, definitions in sets.items()}
    assert "test:rougeL" in names["seq2seq"] - names["sft"]
    assert "eval:mae" in names["script"] & names["text-classification"] - names["seq2seq"]


def test_yes_and_no_are_what_a_method_calls_them(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    for method in methods():
        table = _schema(method)["properties"]
        switches = [
            k
            for k, each in table.items()
            if "boolean" in each.get("type", ()) and "enum" not in each
        ]
        named = [k for k, each in table.items() if "no" in each.get("enum", ())]
        given = [f"    {key}: {word}" for key, word in zip(switches, cycle(("yes", "off")))]
        given += [f"    {key}: {word}" for key, word in zip(named, cycle(("no", "false")))]
        head = f"name: a\ntraining:\n  method: {method}\n  hyperparameters:\n"
        path.write_text(head + "\n".join(given) + "\n")
        values = load_config(path).training.hyperparameters
        assert all(values[key] == "no" for key in named)
        assert {values[key] for key in switches} <= {True, False}
        check_hyperparameters(method, values)
    overridden = load_config(path, ("training.hyperparameters.eval_strategy=no",))
    assert overridden.training.hyperparameters["eval_strategy"] == "no"


def test_labels_are_not_truths(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text("name: a\ndata: {input: a.csv, labels: [yes, no, on], header: no}\n")
    data = load_config(path).data
    assert data is not None
    assert data.labels == ["yes", "no", "on"]
    assert data.header is False
