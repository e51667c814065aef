"""Each task by hand: what is sent, what is measured, what is refused."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from sm_launch.errors import UserInputError
from sm_launch.evaluation import (
    EvaluationPlan,
    LatencyPlan,
    evaluate_endpoint,
    make_task,
    task_of_method,
)
from sm_launch.evaluation.example import UnusableRow
from sm_launch.evaluation.likelihood import NotOfferedError, sum_turn
from sm_launch.evaluation.overlap import Overlap
from sm_launch.evaluation.report import render_report
from sm_launch.evaluation.report.quality import shown
from sm_launch.evaluation.tasks.question_answering import accepted_answers, normalise, word_f1
from sm_launch.evaluation.tasks.token_classification import readable, spans
from sm_launch.evaluation.wire import InvokeReply, WireError

QUICK = {"latency": LatencyPlan(requests=0), "batch_size": 8, "concurrency": 1}


def answering(document, seen=None):
    """An invoke that gives `document`, cut to the number of inputs, for every request."""

    def invoke(body, content_type, accept):
        request = json.loads(body)
        if seen is not None:
            seen.append(request)
        return InvokeReply(200, json.dumps(document[: len(request["inputs"])]).encode())

    return invoke


def test_squad_rules():
    assert normalise("The  Eiffel-Tower, a Tower!") == "eiffeltower tower"
    assert word_f1("the red fox", "a red dog") == pytest.approx(0.5)
    assert word_f1("", "") == 1.0
    assert word_f1("x", "") == 0.0


@pytest.mark.parametrize(
    "cell",
    [
        [{"text": "Paris", "answer_start": 0}, {"text": "in Paris", "answer_start": 3}],
        {"text": ["Paris", "in Paris"], "answer_start": [0, 3]},
        ["Paris", "in Paris"],
        '{"text": ["Paris", "in Paris"]}',
    ],
)
def test_shapes_of_answers(cell):
    assert accepted_answers(cell) == ("Paris", "in Paris")


def test_question_answering_takes_the_best_of_several_answers():
    rows = [
        {"question": "Where?", "context": "It is in Paris.", "answers": ["Paris", "in Paris"]},
        {"question": "Who?", "context": "Nobody.", "answers": []},
        {"question": "When?", "context": "In May.", "answers": "May"},
        {"question": "When?", "context": None, "answers": "May"},
    ]
    predictions = [
        {"answer": "in Paris", "score": 0.9, "start": 6, "end": 14},
        {"answer": "Nobody", "score": 0.4, "start": 0, "end": 6},
        [{"answer": "In May", "score": 0.8, "start": 0, "end": 6}],
    ]
    seen: list[dict] = []
    task = make_task("question-answering")
    result = evaluate_endpoint(
        answering(predictions, seen), rows, EvaluationPlan(task=task, max_failed_share=0.5, **QUICK)
    )
    assert seen[0]["inputs"][0] == {"question": "Where?", "context": "It is in Paris."}
    assert [p.values["exact_match"] for p in result.predictions] == [1.0, 0.0, 0.0]
    assert result.metrics.summary["f1"] == pytest.approx((1 + 0 + 2 / 3) / 3)
    assert result.failures[0].reason == "no context in column 'context'"
    assert result.to_dict()["task"] == "question-answering"
    assert result.intervals["f1"].low <= result.metrics.summary["f1"] <= result.intervals["f1"].high


def test_generation_with_prompts_and_with_chats():
    rows = [
        {"prompt": "Say hello", "completion": "hello  world"},
        {"prompt": "Sag Grüße", "completion": "schöne Grüße aus Köln"},
    ]
    texts = [{"generated_text": "hello world"}, {"generated_text": "schöne Grüße"}]
    seen: list[dict] = []
    task = make_task("text-generation", parameters={"max_new_tokens": 9}, columns=list(rows[0]))
    result = evaluate_endpoint(answering(texts, seen), rows, EvaluationPlan(task=task, **QUICK))
    assert seen[0]["parameters"] == {"max_new_tokens": 9, "return_full_text": False}
    summary = result.metrics.summary
    assert summary["exact_match"] == 0.5
    assert result.predictions[1].values["rouge1"] == pytest.approx(2 * 2 / (2 + 4))
    assert summary["rougeL"] == pytest.approx((1 + 2 / 3) / 2)
    assert 0 < summary["chrf"] < 100
    assert summary["bleu"] == 0  # no four words in a row

    chat = [
        {
            "messages": [
                {"role": "user", "content": "hi"},
                {"role": "assistant", "content": "hello world"},
            ]
        },
        {"messages": [{"role": "user", "content": "hi"}]},
    ]
    task = make_task("text-generation", columns=["messages"])
    result = evaluate_endpoint(
        answering(texts, seen), chat, EvaluationPlan(task=task, max_failed_share=0.5, **QUICK)
    )
    assert seen[-1]["inputs"] == [[{"role": "user", "content": "hi"}]]
    assert result.metrics.summary["exact_match"] == 1.0
    assert "not an answer of the assistant" in result.failures[0].reason


ASK, YES = {"role": "user", "content": "two?"}, {"role": "assistant", "content": "2"}
NO, RULE = {"role": "assistant", "content": "3"}, {"role": "system", "content": "count"}
HUMAN = "\n\nHuman: two?\n\nAssistant:"
PUBLIC: dict[str, tuple[dict[str, Any], Any, str]] = {
    "ShareGPT": ({"conversations": [{"from": "system", "value": "count"},
                                    {"from": "human", "value": "two?"},
                                    {"from": "gpt", "value": "2"}]}, [RULE, ASK], "2"),
    "ShareGPT, prepared": ({"messages": [{"from": "human", "value": "two?"},
                                         {"from": "gpt", "value": "2"}]}, [ASK], "2"),
    "as JSON, with a system column": (
        {"messages": json.dumps([ASK, YES]), "system": "count"}, [RULE, ASK], "2"),
    "UltraFeedback": ({"prompt": "two?", "chosen": [ASK, YES], "rejected": [ASK, NO]}, [ASK], "2"),
    "Orca": ({"system": "count", "question": "two?", "chosen": "2", "rejected": "3"},
             [RULE, ASK], "2"),
    "Orca without a system message": (
        {"system": "", "prompt": "two?", "chosen": "2", "rejected": "3"}, [ASK], "2"),
    "TRL, prompts as messages": ({"prompt": [ASK], "completion": [YES]}, [ASK], "2"),
    "TRL, texts": ({"prompt": "two? ", "completion": "2"}, "two? ", "2"),
    "HH": ({"chosen": f"{HUMAN} 2", "rejected": f"{HUMAN} 3"}, HUMAN, " 2"),
    "a common beginning": ({"chosen": "two? 2", "rejected": "two? 3"}, "two?", " 2"),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLIC)
def test_a_row_is_asked_as_training_reads_it(name):
    """What is asked and expected is what the training container makes of the same row."""
    from sm_train.config import parse_config

    row, asked, expected = PUBLIC[name]
    task = make_task("text-generation", columns=list(row))
    example = task.example(0, row)
    assert (example.text if example.payload is None else example.payload) == asked
    assert example.gold == expected
    config = parse_config({"method": "dpo" if "chosen" in row else "sft"})
    cleaned = config.method.clean_row(row, config)
    answer = cleaned.get("chosen", cleaned.get("completion"))
    if isinstance(asked, list):
        whole = cleaned.get("messages") or cleaned.get("prompt", []) + answer
        assert whole == [*asked, {"role": "assistant", "content": expected}]
    elif name == "a common beginning":  # which TRL takes off
        assert answer == asked + expected
    else:
        assert (cleaned["prompt"], answer) == (asked, expected)


def test_roles_are_those_of_training():
    from sm_launch.data.messages import ROLES
    from sm_train.data.messages import _ROLE_NAMES

    assert {**ROLES, "developer": "developer"} == _ROLE_NAMES


def test_tools_that_are_not_sent_are_told_with_their_count():
    task = make_task("text-generation", columns=["messages", "tools"])
    rows = [{"messages": [ASK, YES], "tools": [{"name": "add"}] * (n % 2)} for n in range(5)]
    examples = [task.example(index, row) for index, row in enumerate(rows)]
    assert "2 rows have tools, which are not sent" in task.settle(examples)[0]
    assert task.settle(examples[:1]) == []


def test_bleu_and_chrf_are_those_of_the_corpus():
    from sacrebleu import corpus_bleu, corpus_chrf

    text = "the cat sat on the mat today"
    rows = [
        (text, text),
        ("zzz qqq", text),
        ("the cat sat here", "the cat sat on a mat"),
        ("", text),
    ]
    of = Overlap().statistic(rows)
    for sample in ([0], [1], [0, 1, 2, 3], [2, 2, 3, 0]):
        answers, references = zip(*(rows[i] for i in sample), strict=True)
        assert of(np.array(sample)) == pytest.approx(
            {
                "bleu": corpus_bleu(answers, [references]).score,
                "chrf": corpus_chrf(answers, [references]).score,
            }
        )
    assert of(np.array([0]))["bleu"] == pytest.approx(100)


def test_entities_are_counted_whole():
    assert spans(["B-PER", "I-PER", "O", "I-LOC", "B-LOC"]) == {
        ("PER", 0, 1),
        ("LOC", 3, 3),
        ("LOC", 4, 4),
    }
    rows = [
        {"tokens": ["Ada", "Lovelace", "saw", "London"], "tags": ["B-PER", "I-PER", "O", "B-LOC"]},
        {"tokens": ["Nothing"], "tags": ["O"]},
    ]
    predictions = [
        [
            {"entity_group": "PER", "start": 0, "end": 12, "score": 0.9},
            {"entity_group": "PER", "start": 17, "end": 23, "score": 0.9},
        ],
        [],
    ]
    result = evaluate_endpoint(
        answering(predictions),
        rows,
        EvaluationPlan(task=make_task("token-classification"), **QUICK),
    )
    assert result.metrics.summary == pytest.approx(
        {"precision": 0.5, "recall": 0.5, "f1": 0.5, "exact_match": 0.5}
    )
    person = {entry.label: entry for entry in result.metrics.per_class}["PER"]
    assert (person.precision, person.recall, person.support) == (0.5, 1.0, 1)
    first, second = result.predictions
    assert (first.values["f1"], second.values["f1"]) == (0.5, 1.0)
    assert shown(first, first.gold) == "Ada Lovelace (PER), London (LOC)"
    assert shown(first, first.predicted) == "Ada Lovelace (PER), London (PER)"
    assert readable(second.text, second.gold) == "none"
    page = render_report(result)
    assert "Ada Lovelace (PER), London (LOC)" in page
    assert "how many of the entities found are right" in page


@pytest.mark.parametrize(
    ("task", "row", "message"),
    [
        ("token-classification", {"tokens": ["a"], "tags": []}, "1 words and 0 tags"),
        ("token-classification", {"tokens": None, "tags": []}, "no list in column 'tokens'"),
        ("text-generation", {"prompt": "x", "completion": " "}, "no completion"),
        ("question-answering", {"question": "x", "context": "y"}, "no answers"),
    ],
)
def test_rows_that_cannot_be_used(task, row, message):
    with pytest.raises(UnusableRow, match=message):
        make_task(task).example(0, row)


@pytest.mark.parametrize("column", [{"images": ["a.png"]}, {"image": {"bytes": "AAAA"}}])
def test_images_that_would_not_be_sent_are_refused(column):
    chat = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "a cat"}]
    for row in ({"messages": chat}, {"prompt": "?", "completion": "a cat"}):
        task = make_task("text-generation", columns=list(row))
        with pytest.raises(UserInputError, match="an evaluation does not send"):
            task.example(0, {**row, **column})
        task.example(0, {**row, "images": []})


@pytest.mark.parametrize(
    ("task", "answer"),
    [
        ("token-classification", [{"word": "x"}]),
        ("text-generation", {"text": "x"}),
        ("question-answering", {"label": "x"}),
    ],
)
def test_answers_of_another_task_are_named(task, answer):
    rows = {
        "token-classification": {"tokens": ["a"], "tags": ["O"]},
        "text-generation": {"prompt": "x", "completion": "y"},
        "question-answering": {"question": "x", "context": "y", "answers": "y"},
    }
    made = make_task(task)
    with pytest.raises(WireError):
        made.predict(made.example(0, rows[task]), answer)


def test_methods_and_tasks():
    assert task_of_method("dpo") == "text-generation"
    assert task_of_method("question-answering") == "question-answering"
    assert task_of_method("reward") == "reward"
    with pytest.raises(UserInputError, match="choose one of text-classification"):
        make_task("translation")


def test_perplexity_weighs_tokens_and_counts_the_answer_alone():
    """A server that scores a text: every word is a token, of log-probability minus its length."""

    def invoke(body, content_type, accept):
        request = json.loads(body)
        if "inputs" in request:
            return InvokeReply(200, json.dumps([{"generated_text": "x"}] * 2).encode())
        if request["prompt"].endswith("refused"):
            return InvokeReply(400, b'{"error": {"message": "too long"}}')
        offsets, values, at = [], [], 0
        for word in request["prompt"].split(" "):
            offsets.append(max(at - 1, 0))
            values.append(-float(len(word)) if at else None)
            at += len(word) + 1
        logprobs = {"text_offset": [*offsets, at - 1], "token_logprobs": [*values, -99.0]}
        return InvokeReply(200, json.dumps({"choices": [{"logprobs": logprobs}]}).encode())

    rows = [
        {"prompt": "one", "completion": " two"},
        {"prompt": "one two", "completion": " three four five"},
    ]
    task = make_task("text-generation")
    result = evaluate_endpoint(invoke, rows, EvaluationPlan(task=task, perplexity=True, **QUICK))
    assert result.metrics.summary["loss"] == pytest.approx((3 + 5 + 4 + 4) / 4)
    assert result.metrics.summary["perplexity"] == pytest.approx(2.718281828**4)
    assert result.intervals["loss"].low <= 4 <= result.intervals["loss"].high
    assert "log_likelihood" not in result.metrics.summary
    rows[1]["completion"] = " refused"
    result = evaluate_endpoint(invoke, rows, EvaluationPlan(task=task, perplexity=True, **QUICK))
    assert result.metrics.summary["loss"] == 3
    assert "without 1 rows; row 1" in result.warnings[0]
    rows[0]["completion"] = " refused"
    result = evaluate_endpoint(invoke, rows, EvaluationPlan(task=task, perplexity=True, **QUICK))
    assert "loss" not in result.metrics.summary
    assert "does not score a given text (HTTP 400: too long)" in result.warnings[0]


def prefill(*texts: str) -> dict[str, Any]:
    """Tokens of a conversation as the server tells them: the first has no probability."""
    tokens = [
        {"id": hash(text), "text": text, "logprob": -float(number) if number else None}
        for number, text in enumerate(texts)
    ]
    return {"generated_text": "x", "details": {"prefill": tokens}}


ASKED = ("<user>", "Was", "?", "<end>", "<bot>")


@pytest.mark.parametrize(
    ("answer", "tokens", "counted"),
    [
        ("Größe 2", (" Gr", "\ufffd", "\ufffd", "ße", "2", "<end>"), range(5, 10)),
        ("Was?", ("<think>", "\n", "Was", "?", "<end>"), (7, 8)),
        ("猫 a", ("\ufffd", "\ufffd\ufffd", " a", "<end>", "<bot>"), (5, 6, 7)),
    ],
)
def test_perplexity_of_a_conversation_counts_the_tokens_of_its_last_answer(answer, tokens, counted):
    """Blanks and halves of characters are shown otherwise by single tokens than by the text."""
    body = json.dumps([prefill(*ASKED, *tokens), prefill(*ASKED)]).encode()
    assert sum_turn(body, answer) == (-sum(counted), len(counted))
    with pytest.raises(NotOfferedError, match="shows the answer otherwise"):
        sum_turn(body, "another")
    with pytest.raises(NotOfferedError, match="does not tell those of a conversation"):
        sum_turn(b'[{"generated_text": "x"}]', answer)


def test_perplexity_of_messages_is_asked_with_and_without_the_answer():
    asked: list[Any] = []

    def invoke(body, content_type, accept):
        request = json.loads(body)
        if "details" not in request["parameters"]:
            return InvokeReply(200, b'[{"generated_text": "2"}]')
        asked.append(request["inputs"])
        return InvokeReply(200, json.dumps([prefill("<", "2", ">"), prefill("<")]).encode())

    task = make_task("text-generation", columns=["messages"])
    plan = EvaluationPlan(task=task, perplexity=True, **QUICK)
    result = evaluate_endpoint(invoke, [{"messages": [ASK, YES]}], plan)
    assert asked[-1] == [[ASK, YES], [ASK]]
    assert result.metrics.summary["loss"] == 1
    assert not [line for line in result.warnings if "perplexity" in line]
