"""Answers that are none, and times that are the server's alone."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sm_launch.errors import UserInputError
from sm_launch.evaluation import (
    EvaluationPlan,
    InvokeReply,
    LatencyPlan,
    PredictionStore,
    RetryPolicy,
    Sender,
    evaluate_endpoint,
    make_task,
)
from sm_launch.evaluation.batches import answer_batch, read_answers
from sm_launch.evaluation.examples import collect_examples
from sm_launch.evaluation.tasks.generation import TextGeneration

QUICK: dict[str, Any] = {
    "latency": LatencyPlan(requests=0),
    "retry": RetryPolicy(attempts=3, base_s=0.001),
}
GOOD: dict[str, Any] = {
    "text-classification": [{"label": "pos", "score": 0.8}, {"label": "neg", "score": 0.2}],
    "question-answering": {"answer": "c", "score": 0.5},
    "text-generation": {"generated_text": "x"},
    "token-classification": [],
}
ROWS: dict[str, dict[str, Any]] = {
    "text-classification": {"text": "t", "label": "pos"},
    "question-answering": {"question": "q", "context": "c", "answers": ["c"]},
    "text-generation": {"prompt": "p", "completion": "x"},
    "token-classification": {"tokens": ["a"], "tags": ["O"]},
}
JSON_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-3, 3), st.floats(), st.text(max_size=3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2),
        st.dictionaries(
            st.sampled_from(["label", "score", "answer", "error", "generated_text", "x"]), inner
        ),
    ),
    max_leaves=5,
)


def server(answer: Callable[[Any], Any], asked: list[int] | None = None) -> Any:
    """An endpoint that answers each input by a function; `asked` gets the size of each request."""

    def invoke(body: bytes, content_type: str, accept: str) -> InvokeReply:
        inputs = json.loads(body)["inputs"]
        if asked is not None:
            asked.append(len(inputs))
        return InvokeReply(200, json.dumps([answer(each) for each in inputs]).encode())

    return invoke


def numbered(task: str, count: int) -> list[dict[str, Any]]:
    """Rows that the server can tell apart by their first column."""
    name = next(iter(ROWS[task]))
    row = ROWS[task]
    if task == "token-classification":
        return [{**row, name: [str(n)]} for n in range(count)]
    return [{**row, name: str(n)} for n in range(count)]


def number(given: Any) -> str:
    return str(given["question"] if isinstance(given, dict) else given)


@pytest.mark.parametrize("task", list(GOOD))
@settings(max_examples=50)
@given(bad=JSON_VALUES)
def test_one_bad_answer_fails_one_row_at_most(task: str, bad: Any):
    invoke = server(lambda given: bad if number(given) == "7" else GOOD[task])
    made = make_task(task)
    examples, _ = collect_examples(numbered(task, 20), made)
    sender = Sender(invoke, "application/json", "application/json")
    replies = answer_batch(sender, made, examples)
    outcome = read_answers(made, replies)
    assert [failure.index for failure in outcome.failures] in ([], [7])
    assert len(outcome.predictions) + len(outcome.failures) == 20
    for prediction in outcome.predictions:
        if prediction.index == 7:
            made.score(prediction)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({"error": "boom"}, "boom"),
        ({"error": {"message": "too long"}}, "too long"),
        (None, "not a list of label and score: None"),
        ([{"label": "pos", "score": float("nan")}], "not a list of label and score"),
        ([{"label": "pos", "score": -0.5}], "score -0.5 is no probability"),
    ],
)
def test_a_bad_answer_is_named(bad: Any, reason: str):
    invoke = server(lambda given: bad if given == "7" else GOOD["text-classification"])
    rows = numbered("text-classification", 20)
    result = evaluate_endpoint(
        invoke, rows, EvaluationPlan(batch_size=1, max_failed_share=0.1, **QUICK)
    )
    (failure,) = result.failures
    assert failure.index == 7
    assert failure.reason.startswith(reason)


def test_a_missing_answer_is_found_by_halving():
    def invoke(body: bytes, content_type: str, accept: str) -> InvokeReply:
        kept = [each for each in json.loads(body)["inputs"] if each != "7"]
        return InvokeReply(200, json.dumps([GOOD["text-classification"]] * len(kept)).encode())

    rows = numbered("text-classification", 20)
    result = evaluate_endpoint(
        invoke, rows, EvaluationPlan(batch_size=8, max_failed_share=0.1, **QUICK)
    )
    assert [failure.index for failure in result.failures] == [7]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ([{"label": "pos", "score": 3.1}, {"label": "neg", "score": -2.0}], "function_to_apply"),
        ([{"label": "LABEL_0", "score": 0.9}, {"label": "LABEL_1", "score": 0.1}], "LABEL_0"),
        ({"label": "LABEL_1", "score": 0.9}, "LABEL_1"),
        ([{"label": "positive", "score": 0.9}, {"label": "negative", "score": 0.1}], "positive"),
    ],
)
def test_strange_answers_are_refused_before_all_rows_are_paid_for(answer: Any, message: str):
    asked: list[int] = []
    with pytest.raises(UserInputError, match=message):
        evaluate_endpoint(
            server(lambda _: answer, asked),
            numbered("text-classification", 4000),
            EvaluationPlan(batch_size=16),
        )
    assert asked == [16]


class SlowToMeasure(TextGeneration):
    """As long answers are."""

    def score(self, prediction: Any) -> Any:
        time.sleep(0.02)
        return super().score(prediction)


@pytest.mark.slow
def test_throughput_is_without_our_own_measuring():
    begin = time.perf_counter()
    result = evaluate_endpoint(
        server(lambda _: GOOD["text-generation"]),
        numbered("text-generation", 40),
        EvaluationPlan(task=SlowToMeasure(), batch_size=4, **QUICK),
    )
    assert time.perf_counter() - begin > 40 * 0.02
    assert result.throughput is not None
    assert result.throughput.wall_s < 40 * 0.02
    assert result.predictions[0].values["exact_match"] == 1


@pytest.mark.slow
def test_latency_counts_repeated_attempts_and_tells_them():
    calls = 0

    def invoke(body: bytes, content_type: str, accept: str) -> InvokeReply:
        nonlocal calls
        calls += 1
        if calls % 2:
            return InvokeReply(503, b"busy")
        inputs = json.loads(body)["inputs"]
        return InvokeReply(200, json.dumps([GOOD["text-classification"]] * len(inputs)).encode())

    result = evaluate_endpoint(
        invoke,
        numbered("text-classification", 4),
        EvaluationPlan(
            batch_size=2,
            concurrency=1,
            latency=LatencyPlan(warmup=0, requests=2),
            retry=RetryPolicy(base_s=0.1),
        ),
    )
    assert result.latency is not None
    assert result.throughput is not None
    for stats in (result.latency, result.throughput.request_latency):
        assert stats.retries == stats.count == 2
        assert stats.min_ms >= 50  # at least half of the pause
    assert result.to_dict()["latency_ms"]["retries"] == 2


@pytest.mark.parametrize("change", ["parameters", "references", "context", "identity", "nothing"])
def test_an_interrupted_evaluation_never_mixes(change: str, tmp_path: Path):
    rows = numbered("question-answering", 12)
    settings_: dict[str, Any] = {"parameters": {"top_k": 1}}
    identity = "content 1"

    def run(invoke: Any) -> Any:
        store = PredictionStore(tmp_path / "p.jsonl", identity)
        task = make_task("question-answering", **settings_)
        return evaluate_endpoint(
            invoke,
            rows,
            EvaluationPlan(task=task, batch_size=1, concurrency=1, store=store, **QUICK),
        )

    def dying(body: bytes, content_type: str, accept: str) -> InvokeReply:
        if "9" in body.decode():
            raise KeyboardInterrupt
        return server(lambda _: {"answer": "old", "score": 0.5})(body, content_type, accept)

    with pytest.raises(KeyboardInterrupt):
        run(dying)
    if change == "parameters":
        settings_ = {"parameters": {"top_k": 1, "handle_impossible_answer": True}}
    elif change == "references":
        rows[0] = {**rows[0], "answers": ["c", "d"]}
    elif change == "context":
        rows[0] = {**rows[0], "context": "other"}
    elif change == "identity":
        identity = "content 2"
    result = run(server(lambda _: {"answer": "new", "score": 0.5}))
    assert ("old" in {p.predicted for p in result.predictions}) == (change == "nothing")
