"""What a reward model is sent, and what its scores are worth."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sm_launch.errors import UserInputError
from sm_launch.evaluation import EvaluationPlan, evaluate_endpoint, make_task
from sm_launch.evaluation.example import UnusableRow
from sm_launch.evaluation.latency import LatencyPlan
from sm_launch.evaluation.wire import InvokeReply

ASK = [{"role": "user", "content": "two?"}]
YES, NO = [{"role": "assistant", "content": "2"}], [{"role": "assistant", "content": "3"}]


def sent(row: dict[str, Any], **parameters: Any) -> Any:
    task = make_task("reward", parameters=parameters)
    body = json.loads(task.encode([task.example(0, row)]))
    assert body["parameters"] == {"top_k": None, "function_to_apply": "none"}
    return body["inputs"]


def test_texts_are_sent_with_the_end_that_training_put_behind_them() -> None:
    row = {"prompt": "two? ", "chosen": "2", "rejected": "3</s>"}
    assert sent(row, eos_token="</s>") == ["two? 2</s>", "two? 3</s>"]
    assert sent({"chosen": "2", "rejected": "3"}) == ["2", "3"]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": ASK, "chosen": YES, "rejected": NO},
        {"prompt": "two?", "chosen": YES, "rejected": NO},
        {"prompt": ASK, "chosen": "2", "rejected": "3"},
        {"prompt": "two?", "chosen": ASK + YES, "rejected": ASK + NO},
        {"chosen": ASK + YES, "rejected": ASK + NO},
        {"prompt": json.dumps(ASK), "chosen": [{"from": "gpt", "value": "2"}], "rejected": NO},
    ],
)
def test_messages_are_sent_as_conversations(row: dict[str, Any]) -> None:
    assert sent(row, eos_token="</s>") == [{"messages": ASK + YES}, {"messages": ASK + NO}]
    assert sent({**row, "tools": [{"name": "add"}]})[0]["tools"] == [{"name": "add"}]


def test_a_system_message_in_a_column_of_its_own_is_sent() -> None:
    row = {"system": "count", "prompt": "two?", "chosen": "2", "rejected": "3"}
    rule = {"role": "system", "content": "count"}
    assert sent(row)[0] == {"messages": [rule, *ASK, *YES]}
    assert sent({**row, "system": ""})[0] == {"messages": [*ASK, *YES]}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"chosen": "2"}, "no answer in column 'rejected'"),
        ({"chosen": "2", "rejected": "2"}, "are the same"),
        ({"chosen": ["2"], "rejected": ["3"]}, "something else than messages"),
        ({"chosen": [], "rejected": YES}, "something else than messages"),
    ],
)
def test_rows_that_cannot_be_compared_are_set_aside(row: dict[str, Any], said: str) -> None:
    with pytest.raises(UnusableRow, match=said):
        make_task("reward").example(0, row)


ROWS = [{"prompt": "", "chosen": "a" * n, "rejected": "b" * m} for n, m in [(5, 3), (2, 4), (9, 1)]]
ROWS = ROWS * 5


def evaluated(score: Any) -> Any:
    def invoke(body: bytes, content_type: str, accept: str) -> InvokeReply:
        answers = [score(text) for text in json.loads(body)["inputs"]]
        return InvokeReply(200, json.dumps(answers).encode())

    return evaluate_endpoint(
        invoke, ROWS, EvaluationPlan(task=make_task("reward"), latency=LatencyPlan(), batch_size=4)
    )


def test_scores_become_the_share_of_pairs_in_order_and_their_margin() -> None:
    result = evaluated(lambda text: [{"label": "LABEL_0", "score": len(text) - 4.0}])
    summary = result.metrics.summary
    assert summary["accuracy"] == pytest.approx(2 / 3)
    assert summary["margin"] == pytest.approx((2 - 2 + 8) / 3)
    assert summary["mean_reward"] == pytest.approx(0.0)
    assert 0 < result.intervals["accuracy"].low < 2 / 3 < result.intervals["accuracy"].high < 1
    margin = result.intervals["margin"]
    assert margin.low < summary["margin"] < margin.high
    assert [p.correct for p in result.predictions[:3]] == [True, False, True]


def test_a_classifier_is_no_reward_model() -> None:
    with pytest.raises(UserInputError, match="gives no single number"):
        evaluated(lambda text: [{"label": "a", "score": 0.1}, {"label": "b", "score": 0.9}])
