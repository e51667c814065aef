from __future__ import annotations

import json

import pytest

from sm_launch.evaluation import make_task
from sm_launch.evaluation.example import Example
from sm_launch.evaluation.wire import InvokeReply, WireError, error_message, read_scores

SCORES = [{"label": "a", "score": 0.3}, {"label": "b", "score": 0.7}]


def decode(body: bytes, expected: int):
    task = make_task("text-classification")
    return [task.predict(Example(0, "x", "x"), each) for each in task.answers(body, expected)]


def test_a_request_asks_for_all_scores():
    examples = [Example(0, "ä", "x"), Example(1, "b", "x")]
    body = make_task("text-classification").encode(examples)
    assert json.loads(body) == {"inputs": ["ä", "b"], "parameters": {"top_k": None}}


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ([SCORES, SCORES], 2),
        ([SCORES], 1),
        (SCORES, 1),  # one input, the outer list dropped
        ([{"label": "b", "score": 0.7}, {"label": "b"}], 2),  # top_k ignored
    ],
)
def test_shapes_of_replies(document, expected):
    answers = decode(json.dumps(document).encode(), expected)
    assert [answer.predicted for answer in answers] == ["b"] * expected


def test_scores_of_all_labels_are_kept():
    assert read_scores(SCORES).scores == {"a": 0.3, "b": 0.7}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"oops", "not JSON: oops"),
        (b'"a"', "not a JSON list"),
        (b'[[{"label": "a", "score": NaN}]]', "not a list of label and score"),
        (b'[[{"label": "a", "score": -0.1}]]', "score -0.1 is no probability"),
        (b'[[{"label": "a", "score": 2.5}]]', "score 2.5 is no probability"),
        (b"[[]]", "not a list of label and score"),
        (b"[[1]]", "not a list of label and score"),
        (b'[{"label": "a"}, {"label": "a"}]', "3 inputs were sent and 2 answers"),
    ],
)
def test_other_replies_are_refused(body, message):
    with pytest.raises(WireError, match=message):
        decode(body, 3 if b"}, {" in body else 1)


def test_error_messages_are_found_or_quoted():
    ours = b'{"error": {"code": "x", "message": "too long"}}'
    assert error_message(InvokeReply(400, ours)) == "HTTP 400: too long"
    assert error_message(InvokeReply(502, b"<h1>Bad")) == "HTTP 502: <h1>Bad"
    assert error_message(InvokeReply(500, b"")) == "HTTP 500: (empty body)"
