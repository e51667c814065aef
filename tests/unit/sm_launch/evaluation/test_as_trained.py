"""What an artefact tells of how it is asked, and what training measured."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sm_launch.errors import UserInputError
from sm_launch.evaluation import (
    Artefact,
    EvaluationPlan,
    InvokeReply,
    LatencyPlan,
    beside_training,
    evaluate_endpoint,
    make_task,
    read_artefact,
)
from sm_launch.evaluation.examples import collect_examples
from sm_launch.evaluation.job.asking import task_of
from sm_launch.job.config import JobConfig
from sm_train.methods import class_labels
from sm_train.results.regression import regression_scores

QUICK: dict[str, Any] = {"latency": LatencyPlan(requests=0), "batch_size": 8}
CONFIG = {
    "id2label": {"0": "other", "1": "same", "10": "c", "2": "b"},
    "task_specific_params": {
        "text-classification": {
            "max_length": 64,
            "columns": {"text": "one", "text_pair": "two", "label": "gold"},
        }
    },
}
RESULTS = {"test_accuracy": 1.0, "test_sha256": "abc", "test_rows": 4}
ROWS = [{"one": f"a{n}", "two": f"b{n}", "gold": "same"} for n in range(30)]


def answering(answer: Any, seen: list[Any] | None = None) -> Any:
    def invoke(body: bytes, content_type: str, accept: str) -> InvokeReply:
        request = json.loads(body)
        if seen is not None:
            seen.append(request)
        return InvokeReply(200, json.dumps([answer] * len(request["inputs"])).encode())

    return invoke


@pytest.mark.parametrize("form", ["directory", "archive"])
def test_an_artefact_is_read_without_its_weights(form: str, tmp_path: Path):
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps(CONFIG))
    (model / "eval_results.json").write_text(json.dumps(RESULTS))
    (model / "model.safetensors").write_bytes(b"0" * 1000)
    source = model
    if form == "archive":
        source = tmp_path / "model.tar.gz"
        with tarfile.open(source, "w:gz") as archive:
            archive.add(model, ".")
    artefact = read_artefact(source.as_uri())
    assert artefact == Artefact(CONFIG, RESULTS)
    assert artefact.labels == ("other", "same", "b", "c")
    assert artefact.asked("text-classification")[0] == {"max_length": 64}
    (model / "config.json").unlink()
    assert read_artefact(str(model)) is None


def test_the_model_is_asked_as_its_config_says():
    config = JobConfig.model_validate({"name": "mine", "training": {"model": "x"}})
    seen: list[Any] = []
    task = task_of(config, ROWS, Artefact(CONFIG, RESULTS))
    answer = [{"label": "same", "score": 0.9}, {"label": "other", "score": 0.1}]
    result = evaluate_endpoint(answering(answer, seen), ROWS, EvaluationPlan(task=task, **QUICK))
    assert seen[-1]["inputs"][0].keys() == {"text", "text_pair"}
    assert seen[-1]["parameters"] == {"top_k": None, "max_length": 64}
    assert result.metrics is not None
    assert result.metrics.summary["accuracy"] == 1
    alone = [{"one": "a", "gold": "same"}]
    with pytest.raises(UserInputError, match="two") as caught:
        collect_examples(alone, task_of(config, alone, Artefact(CONFIG)))
    assert caught.value.field == "text_pair_column"


def test_without_an_artefact_it_is_asked_as_job_yaml_trains_it():
    given_ = {"text_pair_column": "two", "text_column": "one", "label_column": "gold"}
    training = {"model": "x", "hyperparameters": given_}
    config = JobConfig.model_validate({"name": "mine", "training": training})
    examples, _ = collect_examples(ROWS, task_of(config, ROWS, None))
    assert examples[3].payload == {"text": "a3", "text_pair": "b3"}


@pytest.mark.parametrize(
    ("label", "sha256", "told", "warned"),
    [
        ("other", "abc", True, True),
        ("same", "abc", True, False),
        ("other", "another test set", False, False),
    ],
)
def test_training_and_evaluation_that_contradict_are_told(label, sha256, told, warned):
    answer = [{"label": "same", "score": 0.5 + 0.4 * (label == "same")},
              {"label": "other", "score": 0.5 - 0.4 * (label == "same") + 1e-3}]  # fmt: skip
    rows = [{"text": f"t{n}", "label": "same" if n else "other"} for n in range(30)]
    result = evaluate_endpoint(answering(answer), rows, EvaluationPlan(**QUICK))
    warnings = beside_training(result, Artefact(CONFIG, RESULTS), sha256)
    assert warnings.training == ({"accuracy": 1.0} if told else {})
    assert any("beyond the interval" in warning for warning in warnings.warnings) == warned
    assert warnings.to_dict()["training"] == warnings.training


@given(
    value=st.one_of(st.integers(0, 5), st.integers(0, 5).map(float), st.sampled_from("012ab")),
    labels=st.sampled_from([["a", "b"], ["0", "1", "2"], ["b", "2", "x", "y"], ["0", "1"]]),
)
def test_a_label_has_the_name_that_training_gives_it(value: Any, labels: list[str]):
    try:
        trained = class_labels.one(value, "label", labels)
    except ValueError:
        return  # training sets such a row aside
    task = make_task("text-classification", known_labels=labels)
    (example,), _ = collect_examples([{"text": "t", "label": value}], task)
    assert example.gold == trained


def test_numbers_that_are_read_as_classes_are_told():
    task = make_task("text-classification", known_labels=["no", "yes"])
    answer = [{"label": "yes", "score": 0.9}, {"label": "no", "score": 0.1}]
    rows = [{"text": "t", "label": float(n % 2)} for n in range(10)]
    result = evaluate_endpoint(answering(answer), rows, EvaluationPlan(task=task, **QUICK))
    assert "read as the model's classes: 0 = no, 1 = yes" in result.warnings[0]
    assert result.metrics is not None
    assert result.metrics.summary["accuracy"] == 0.5


def test_numbers_of_which_some_are_no_class_are_refused():
    task = make_task("text-classification", known_labels=["negative", "positive"])
    rows = [{"text": "t", "label": n} for n in range(1, 6)]
    with pytest.raises(UserInputError, match=r"these are none.*2, 3, 4, 5"):
        evaluate_endpoint(
            answering({"label": "negative"}), rows, EvaluationPlan(task=task, **QUICK)
        )


def test_questions_without_an_answer_may_get_none():
    rows = [{"question": "q", "context": "c", "answers": []}] * 3
    seen: list[Any] = []
    result = evaluate_endpoint(
        answering({"answer": "", "score": 0.5}, seen),
        rows,
        EvaluationPlan(task=make_task("question-answering"), **QUICK),
    )
    assert seen[-1]["parameters"] == {"handle_impossible_answer": True}
    assert "3 questions have no answer" in result.warnings[0]
    task = make_task("question-answering", parameters={"handle_impossible_answer": False})
    evaluate_endpoint(
        answering({"answer": "", "score": 0.5}, seen), rows, EvaluationPlan(task=task, **QUICK)
    )
    assert seen[-1]["parameters"] == {"handle_impossible_answer": False}


def test_words_that_the_model_did_not_read_are_told():
    row = {"tokens": ["Ada", "met", "Bob", "Lee"], "tags": ["B-P", "O", "B-P", "I-P"]}
    answer = [
        {"entity": "B-P", "start": 0, "end": 3},
        {"entity": "O", "start": 4, "end": 7},
        {"entity": "B-P", "start": 8, "end": 11},
    ]
    task = make_task("token-classification")
    result = evaluate_endpoint(answering(answer), [row] * 3, EvaluationPlan(task=task, **QUICK))
    assert result.metrics is not None
    assert result.metrics.summary["f1"] == 1
    assert any("3 words of 3 rows have no token" in warning for warning in result.warnings)


NUMBERS = st.floats(-100, 100, allow_nan=False)


@pytest.mark.slow
@given(pairs=st.lists(st.tuples(NUMBERS, NUMBERS), min_size=2, max_size=20))
def test_numbers_are_measured_as_in_training(pairs: list[tuple[float, float]]):
    task = make_task("text-regression")
    results = [
        task.predict(
            task.example(n, {"text": "t", "label": str(gold)}), [{"label": "L", "score": given_}]
        )
        for n, (gold, given_) in enumerate(pairs)
    ]
    golds, answers = zip(*pairs, strict=True)
    trained = regression_scores(golds, answers)
    summary = task.metrics(results).summary
    assert {name: summary[name] for name in trained} == pytest.approx(trained, abs=1e-6)


@pytest.mark.slow
def test_a_regression_is_known_by_its_config():
    config = JobConfig.model_validate({"name": "mine", "training": {"model": "x"}})
    artefact = Artefact({"problem_type": "regression", "id2label": {"0": "LABEL_0"}})
    rows = [{"text": f"t{n}", "label": n / 10} for n in range(20)]
    seen: list[Any] = []
    task = task_of(config, rows, artefact)
    result = evaluate_endpoint(
        answering({"label": "LABEL_0", "score": 1.5}, seen),
        rows,
        EvaluationPlan(task=task, **QUICK),
    )
    assert seen[-1]["parameters"] == {"function_to_apply": "none"}
    assert result.metrics is not None
    assert result.metrics.summary["mae"] == pytest.approx(
        sum(abs(1.5 - n / 10) for n in range(20)) / 20
    )
    classes = [{"label": "a", "score": 0.9}, {"label": "b", "score": 0.1}]
    with pytest.raises(UserInputError, match="has the classes a, b"):
        evaluate_endpoint(answering(classes), rows, EvaluationPlan(task=task, **QUICK))
    bad = [{"text": "t", "label": "many"}, *rows]
    evaluated = evaluate_endpoint(
        answering({"label": "LABEL_0", "score": 1.5}),
        bad,
        EvaluationPlan(task=task, max_failed_share=0.1, **QUICK),
    )
    assert evaluated.failures[0].reason == "no number in column 'label'"


def test_half_a_character_fails_its_row():
    rows = [{"text": "a\ud800" if n == 1 else "a", "label": "same"} for n in range(3)]
    answer = [{"label": "same", "score": 0.9}, {"label": "other", "score": 0.1}]
    result = evaluate_endpoint(
        answering(answer), rows, EvaluationPlan(max_failed_share=0.5, **QUICK)
    )
    assert [failure.index for failure in result.failures] == [1]
    assert "lone surrogate" in result.failures[0].reason
