"""Rows in every format that TRL documents, and in the forms that public data sets have them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sm_train.config import parse_config
from sm_train.data.channels import load_data
from sm_train.errors import UserError
from sm_train.job import Job
from sm_train.platform.stopping import StopRequest
from sm_train.rows import Data
from sm_train.settings.settings import Config


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


CHAT = [user("hi"), assistant("hello")]
TOOL_CALL = {"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}


def settings(method: str, **given: Any) -> Config:
    return parse_config({"method": method, **given})


def cleaned(method: str, row: dict[str, Any], **given: Any) -> dict[str, Any]:
    config = settings(method, **given)
    return config.method.clean_row(row, config)


@pytest.mark.parametrize(
    ("row", "wanted"),
    [
        ({"text": "a", "id": 3}, {"text": "a"}),
        ({"messages": CHAT}, {"messages": CHAT}),
        ({"messages": json.dumps(CHAT)}, {"messages": CHAT}),
        ({"prompt": "a", "completion": "b"}, {"prompt": "a", "completion": "b"}),
        (
            {"prompt": [user("a")], "completion": [assistant("b")]},
            {"prompt": [user("a")], "completion": [assistant("b")]},
        ),
        (
            {"prompt": [user("a")], "completion": "b"},
            {"prompt": [user("a")], "completion": [assistant("b")]},
        ),
        # JSON that is to be learnt is no conversation.
        ({"prompt": "a", "completion": '[{"x": 1}]'}, {"prompt": "a", "completion": '[{"x": 1}]'}),
        (
            {
                "conversations": [
                    {"from": "human", "value": "hi"},
                    {"from": "gpt", "value": "hello"},
                ]
            },
            {"messages": CHAT},
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}, CHAT[1]]},
            {"messages": CHAT},
        ),
        # Parquet gives every message every key.
        (
            {"messages": [{**user("hi"), "tool_calls": None}, {**CHAT[1], "tool_calls": None}]},
            {"messages": CHAT},
        ),
        (
            {"messages": CHAT, "tools": '[{"a": 1}]', "chat_template_kwargs": '{"b": 2}'},
            {"messages": CHAT, "tools": [{"a": 1}], "chat_template_kwargs": {"b": 2}},
        ),
        ({"input_ids": [1, 2], "labels": [1, 2]}, {"input_ids": [1, 2], "labels": [1, 2]}),
    ],
)
def test_sft(row: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert cleaned("sft", row) == wanted


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"messages": [user("hi")]}, "no assistant turn"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "without a role"),
        ({"messages": [user("x"), {"role": "assistant", "content": 3}]}, "content is not text"),
        ({"messages": [{"role": "user", "content": [{"type": "video"}]}]}, "not text"),
        ({"messages": CHAT, "tools": "none"}, "tools is not"),
        ({"prompt": "a"}, "no text in column completion"),
        ({"prompt": "a", "completion": [user("other"), assistant("b")]}, "begin with it"),
        ({"input_ids": [1, 2], "labels": [1]}, "not as long"),
        ({"input_ids": ["1"]}, "whole numbers"),
    ],
)
def test_sft_says_why_a_row_is_bad(row: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        cleaned("sft", row)


EXPLICIT = {"prompt": [user("q")], "chosen": [assistant("y")], "rejected": [assistant("n")]}
WHOLE = {"chosen": [user("q"), assistant("y")], "rejected": [user("q"), assistant("n")]}


@pytest.mark.parametrize("method", ["dpo", "orpo", "cpo", "reward"])
@pytest.mark.parametrize(
    ("row", "wanted"),
    [
        ({"prompt": "q", "chosen": "y", "rejected": "n", "score": 1}, None),
        ({"chosen": "q y", "rejected": "q n"}, None),
        (EXPLICIT, None),
        (WHOLE, None),
        # UltraFeedback: the prompt as text beside whole conversations.
        ({"prompt": "q", **WHOLE, "messages": WHOLE["chosen"], "score_chosen": 8.5}, EXPLICIT),
        ({"prompt": "q", "chosen": [assistant("y")], "rejected": [assistant("n")]}, EXPLICIT),
        ({"prompt": [user("q")], "chosen": "y", "rejected": "n"}, EXPLICIT),
        ({**EXPLICIT, "tools": [{"a": 1}]}, {**EXPLICIT, "tools": [{"a": 1}]}),
        (
            # A system turn that the text prompt lacks: the conversations hold the whole prompt.
            {"prompt": "q", **{k: [{"role": "system", "content": "s"}, *WHOLE[k]] for k in WHOLE}},
            {k: [{"role": "system", "content": "s"}, *WHOLE[k]] for k in WHOLE},
        ),
    ],
)
def test_preferences(method: str, row: dict[str, Any], wanted: dict[str, Any] | None) -> None:
    names = ("prompt", "chosen", "rejected")
    assert cleaned(method, row) == (wanted or {k: v for k, v in row.items() if k in names})


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"chosen": "a", "rejected": "a"}, "the same"),
        ({"chosen": [user("a"), CHAT[1]], "rejected": [user("b"), CHAT[1]]}, "same prompt"),
        ({"chosen": "", "rejected": "a"}, "no text in column chosen"),
    ],
)
def test_preferences_say_why_a_row_is_bad(row: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        cleaned("dpo", row)


@pytest.mark.parametrize("mark", [True, "true", 1, "1", 1.0])
def test_kto_takes_marked_answers_and_pairs(mark: Any) -> None:
    row = {"prompt": "q", "completion": "y", "label": mark}
    assert cleaned("kto", row) == {"prompt": "q", "completion": "y", "label": True}
    pair = {"prompt": "q", "chosen": "y", "rejected": "n"}
    assert cleaned("kto", pair) == pair


QUESTION = {"question": "Who?", "context": "It was Ada."}
ADA = {**QUESTION, "texts": ["Ada"], "starts": [7]}


@pytest.mark.parametrize(
    ("answers", "wanted"),
    [
        ({"text": ["Ada"], "answer_start": [7]}, ADA),
        ([{"text": "Ada", "answer_start": 7}], ADA),
        ('{"text": ["Ada"], "answer_start": [7]}', ADA),
        ({"text": ["Ada"], "answer_start": [2]}, ADA),  # a wrong place is mended
        ({"text": ["Ada"]}, ADA),
        (["Ada"], ADA),
        ("Ada", ADA),
        ({"text": [], "answer_start": []}, {**QUESTION, "texts": [], "starts": []}),
        ([], {**QUESTION, "texts": [], "starts": []}),
        ("", {**QUESTION, "texts": [], "starts": []}),
    ],
)
def test_squad_answers(answers: Any, wanted: dict[str, Any]) -> None:
    assert cleaned("question-answering", {**QUESTION, "answers": answers}) == wanted


def test_squad_v2_s_file_nested_or_as_one_line() -> None:
    answered = {"id": "1", "question": "Who?", "is_impossible": False}
    answered["answers"] = [{"text": "Ada", "answer_start": 7}]
    unanswerable = {"id": "2", "question": "When?", "is_impossible": True, "answers": []}
    unanswerable["plausible_answers"] = [{"text": "It", "answer_start": 0}]
    paragraph = {"context": "It was Ada.", "qas": [answered, unanswerable]}
    file = {"version": "v2.0", "data": [{"title": "t", "paragraphs": [paragraph]}]}
    config = settings("question-answering")
    for nested in (file, file["data"][0]):
        rows = [config.method.clean_row(r, config) for r in config.method.expand(nested)]
        assert [row["texts"] for row in rows] == [["Ada"], []]


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        (None, "neither a list nor"),
        ("{'text': array(['x'])}", "is not JSON"),
        ({"text": ["Ada"], "answer_start": []}, None),
        ({"text": ["Ada", "It"], "answer_start": [7]}, "as many text as answer_start"),
        (["Bob"], "'Bob' is not in the context"),
        ([{"answer_start": 3}], "no text"),
    ],
)
def test_squad_says_why_a_row_is_bad(answers: Any, reason: str | None) -> None:
    row = {**QUESTION, "answers": answers}
    if reason is None:
        assert cleaned("question-answering", row) == ADA
        return
    with pytest.raises(ValueError, match=reason):
        cleaned("question-answering", row)


def test_class_ids_count_in_the_list_of_labels() -> None:
    row = {"text": "x", "label": 1}
    assert cleaned("text-classification", row, labels="neg,pos")["label"] == "pos"
    assert cleaned("text-classification", row)["label"] == "1"
    for label, reason in ((0.5, "measure"), (["a"], "several labels"), (7, "unknown label")):
        with pytest.raises(ValueError, match=reason):
            cleaned("text-classification", {"text": "x", "label": label}, labels="neg,pos")


@pytest.mark.parametrize(
    ("method", "rows", "advice"),
    [
        (
            "sft",
            [{"question": "q", "answer": "a"}],
            '{"question": "prompt", "answer": "completion"}',
        ),
        ("grpo", [{"question": "q", "answer": "a"}], '{"question": "prompt"}'),
        ("question-answering", [{**QUESTION, "answer": "a"}], '{"answer": "answers"}'),
        ("token-classification", [{"tokens": ["a"], "ner_tags": ["O"]}], '{"ner_tags": "tags"}'),
    ],
)
def test_the_error_for_other_names_says_how_to_rename(
    paths: Any, channel: Any, method: str, rows: Any, advice: str
) -> None:
    channel("train", rows)
    with pytest.raises(UserError) as caught:
        load_data(paths, settings(method))
    assert advice in str(caught.value)


@pytest.mark.parametrize(
    ("method", "rows"),
    [
        (
            "dpo",
            [{"chosen": "q y", "rejected": "q n"}, {"prompt": "q", "chosen": "y", "rejected": "n"}],
        ),
        ("grpo", [{"prompt": "q", "answer": "1"}, {"prompt": [user("q")], "answer": "1"}]),
        ("sft", [{"text": "a"}, {"messages": CHAT}]),
    ],
)
def test_a_data_set_is_of_one_format(paths: Any, channel: Any, method: str, rows: Any) -> None:
    channel("train", rows)
    with pytest.raises(UserError, match=r"mix formats: 1 rows with .*, 1 rows with"):
        load_data(paths, settings(method))


def test_a_loss_on_answers_needs_to_know_them(paths: Any, channel: Any) -> None:
    channel("train", [{"text": "a"}])
    for key in ("assistant_only_loss", "completion_only_loss"):
        with pytest.raises(UserError, match=key):
            load_data(paths, settings("sft", **{key: "true"}))


def test_arrow_keeps_what_differs_from_row_to_row(paths: Any) -> None:
    """Tool calls keep their own arguments, and a column may be missing in the first row."""
    other = {"type": "function", "function": {"name": "g", "arguments": {"y": "z"}}}
    rows = [
        {"messages": [user("a"), {"role": "assistant", "content": None, "tool_calls": [call]}]}
        for call in (TOOL_CALL, other)
    ]
    rows[1]["tools"] = [{"name": "g"}]
    rows[1]["chat_template_kwargs"] = {"enable_thinking": False}
    job = Job(paths, settings("sft"), Data(rows, None, None), "", StopRequest(), 0)
    first, second = job.dataset("train")
    assert first["messages"][1]["tool_calls"] == [TOOL_CALL]
    assert (first["tools"], first["chat_template_kwargs"]) == (None, {})
    assert second["messages"][1]["tool_calls"] == [other]
    assert second["tools"] == [{"name": "g"}]


def test_what_arrow_cannot_hold_is_set_aside(paths: Any, channel: Any) -> None:
    rows = [{"prompt": "q", "answer": str(i), "score": i} for i in range(20)]
    rows += [{"prompt": "q", "answer": 2**70}, {"prompt": "half \ud800", "answer": 1}]
    channel("train", rows)
    data = load_data(paths, settings("grpo"))
    assert (len(data.train), data.rejected) == (20, {"train": 2})


SEVERAL = "multi_label_classification"


@pytest.mark.parametrize("cell", [["a", "b"], '["a", "b"]', "['a', 'b']", [0, 1], [0.0, "b"]])
def test_a_list_of_labels_is_read_in_every_form(cell: Any) -> None:
    row = {"text": "x", "label": cell}
    kept = cleaned("text-classification", row, labels="a,b", problem_type=SEVERAL)
    assert kept["label"] == ["a", "b"]
    with pytest.raises(ValueError, match=f"set problem_type to {SEVERAL}"):
        cleaned("text-classification", row, labels="a,b")


def test_a_text_may_have_no_label_but_no_cell_may_be_unclear() -> None:
    def label(cell: Any) -> Any:
        row = {"text": "x", "label": cell}
        return cleaned("text-classification", row, problem_type=SEVERAL)["label"]

    assert label([]) == label("[]") == []
    assert label([3, 2.0]) == ["3", "2"]
    reasons = {"a|b": "label_separator", "a": "no list", "": r"\[\] is a text without any"}
    for cell, reason in reasons.items():
        with pytest.raises(ValueError, match=reason):
            label(cell)
    for cell, reason in ((None, "no list"), ([0, 1, 0], "stands twice"), ([["a"]], "list in a")):
        with pytest.raises(ValueError, match=reason):
            label(cell)
