"""Rows of public data sets in their makers' shapes, and what training makes of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sm_train.config import parse_config
from sm_train.contract import Paths
from sm_train.data.channels import load_data
from sm_train.errors import UserError

Channel = Callable[..., Path]


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str, *calls: dict[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **({"tool_calls": list(calls)} if calls else {})}


def system(text: str) -> dict[str, Any]:
    return {"role": "system", "content": text}


def cleaned(method: str, row: dict[str, Any], **given: Any) -> dict[str, Any]:
    config = parse_config({"method": method, **given})
    return config.method.clean_row(row, config)


CALL = {"type": "function", "function": {"name": "w", "arguments": {"city": "Rome"}}}
TOOL = {"type": "function", "function": {"name": "w", "parameters": {"type": "object"}}}
SHAREGPT = [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}]
PREAMBLE = "Below is an instruction that describes a task"
HH = "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: Help?\n\nAssistant:"


@pytest.mark.parametrize(
    ("row", "given", "wanted"),
    [
        (
            {"instruction": "Add", "input": "1 2", "output": "3", "text": "all of it"},
            {},
            {
                "prompt": f"{PREAMBLE}, paired with an input that provides further context. "
                "Write a response that appropriately completes the request.\n\n"
                "### Instruction:\nAdd\n\n"
                "### Input:\n1 2\n\n### Response:\n",
                "completion": "3",
            },
        ),
        (
            {"instruction": "Greet", "input": "", "output": "Hi"},
            {},
            {
                "prompt": f"{PREAMBLE}. Write a response that appropriately completes the request."
                "\n\n### Instruction:\nGreet\n\n### Response:\n",
                "completion": "Hi",
            },
        ),
        (
            {"instruction": "Add", "input": "1 2", "output": "3", "system": "S", "history": []},
            {},
            {"prompt": [system("S"), user("Add\n\n1 2")], "completion": [assistant("3")]},
        ),
        (
            {"instruction": "b", "output": "c", "history": [["q", "a"]]},
            {},
            {
                "prompt": [user("q"), assistant("a"), user("b")],
                "completion": [assistant("c")],
            },
        ),
        (
            {"conversations": SHAREGPT, "system": "Be a pirate."},
            {},
            {"messages": [system("Be a pirate."), user("hi"), assistant("hello")]},
        ),
        (
            {
                "conversations": [
                    {"from": "human", "value": "weather?"},
                    {
                        "from": "function_call",
                        "value": '{"name": "w", "arguments": {"city": "Rome"}}',
                    },
                    {"from": "observation", "value": "sunny"},
                    {"from": "gpt", "value": "Sunny."},
                ],
                "tools": '[{"name": "w", "parameters": {"type": "object"}}]',
            },
            {},
            {
                "messages": [
                    user("weather?"),
                    assistant("", CALL),
                    {"role": "tool", "content": "sunny"},
                    assistant("Sunny."),
                ],
                "tools": [TOOL],
            },
        ),
        (
            {
                "messages": [
                    user("weather?"),
                    {
                        "role": "assistant",
                        "content": None,
                        "function_call": {"name": "w", "arguments": '{"city": "Rome"}'},
                    },
                    {"role": "function", "name": "w", "content": "sunny"},
                    assistant("Sunny."),
                ],
                "functions": [{"name": "w", "parameters": {"type": "object"}}],
            },
            {},
            {
                "messages": [
                    user("weather?"),
                    assistant("", CALL),
                    {"role": "tool", "content": "sunny", "name": "w"},
                    assistant("Sunny."),
                ],
                "tools": [TOOL],
            },
        ),
        (
            {"messages": [user("a"), {**assistant("b"), "weight": 0}, user("c"), assistant("d")]},
            {},
            {
                "messages": [user("a"), assistant("b"), user("c"), assistant("d")],
                "learn": [None, False, None, None],
            },
        ),
        (
            {"conversations": [SHAREGPT[0], {**SHAREGPT[1], "train": True}], "system": "s"},
            {},
            {
                "messages": [system("s"), user("hi"), assistant("hello")],
                "learn": [None, None, True],
            },
        ),
        (
            {"title": "T", "body": "B", "tag": 7, "completion": "c", "messages": [user("no")]},
            {"prompt_template": "{title}: {body} {{{tag}}}"},
            {"prompt": "T: B {7}", "completion": "c"},
        ),
    ],
)
def test_sft(
    paths: Paths, channel: Channel, row: dict[str, Any], given: dict[str, Any], wanted: Any
) -> None:
    channel("train", [row])
    assert load_data(paths, parse_config({"method": "sft", **given})).train == [wanted]


@pytest.mark.parametrize(
    ("row", "wanted"),
    [
        (
            {"system": "S", "question": "q", "chosen": "y", "rejected": "n"},
            {
                "prompt": [system("S"), user("q")],
                "chosen": [assistant("y")],
                "rejected": [assistant("n")],
            },
        ),
        (
            {"system": "", "question": "q", "chosen": "y", "rejected": "n"},
            {"prompt": [user("q")], "chosen": [assistant("y")], "rejected": [assistant("n")]},
        ),
        (
            {"chosen": f"{HH} It is so.", "rejected": f"{HH} It is not."},
            {"prompt": HH, "chosen": " It is so.", "rejected": " It is not."},
        ),
        (
            {
                "input": {"messages": [user("q")], "tools": [TOOL]},
                "preferred_output": [assistant("y")],
                "non_preferred_output": [assistant("n")],
            },
            {
                "prompt": [user("q")],
                "chosen": [assistant("y")],
                "rejected": [assistant("n")],
                "tools": [TOOL],
            },
        ),
        (
            {
                "conversations": [{"from": "human", "value": "q"}],
                "chosen": {"from": "gpt", "value": "y"},
                "rejected": {"from": "gpt", "value": "n"},
            },
            {"prompt": [user("q")], "chosen": [assistant("y")], "rejected": [assistant("n")]},
        ),
    ],
)
def test_preferences(row: dict[str, Any], wanted: dict[str, Any]) -> None:
    for method in ("dpo", "orpo", "cpo", "reward", "kto"):
        assert cleaned(method, row) == wanted


def test_a_judged_conversation() -> None:
    row = {"conversations": SHAREGPT, "label": 0}
    wanted = {"prompt": [user("hi")], "completion": [assistant("hello")], "label": False}
    assert cleaned("kto", row) == wanted


@pytest.mark.parametrize(
    ("method", "row", "reason"),
    [
        ("sft", {"prompt": [user(" ")], "completion": "x"}, "the prompt is empty"),
        ("sft", {"messages": [user(""), assistant("x")]}, "the prompt is empty"),
        ("sft", {"instruction": "a"}, "no text in column completion"),
        ("sft", {"messages": [user("a"), {**assistant("b"), "weight": 0.5}]}, "neither 0 nor 1"),
        ("sft", {"messages": [user("a"), {**assistant("b"), "mask": 1}]}, "may mean both"),
        ("sft", {"messages": [user("a"), {**assistant("b"), "weight": 0}]}, "no turn of messages"),
        ("dpo", {"chosen": "yes", "rejected": "no"}, "the prompt is empty"),
        (
            "dpo",
            {"prompt": "a", "chosen": [{**assistant("b"), "weight": 0}], "rejected": "n"},
            "only sft honours",
        ),
        (
            "sft",
            {"messages": [user("a"), assistant("", {"function": {"name": "f", "arguments": "x"}})]},
            "not a JSON object",
        ),
        ("reward", {"prompt": "a", "chosen": "b", "rejected": "c", "margin": "big"}, "no number"),
    ],
)
def test_what_a_row_is_set_aside_for(method: str, row: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        cleaned(method, row)


def test_a_margin_is_kept_or_refused_where_rows_lack_it(paths: Paths, channel: Channel) -> None:
    pair = {"prompt": "q", "chosen": "y", "rejected": "n"}
    config = parse_config({"method": "reward"})
    channel("train", [{**pair, "margin": 1}, {**pair, "margin": 0.5}])
    assert [row["margin"] for row in load_data(paths, config).train] == [1.0, 0.5]
    channel("train", [{**pair, "margin": 1}, pair])
    with pytest.raises(UserError, match="column margin: 1 of 2 rows have one"):
        load_data(paths, config)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{instructon}\n{input}", "does not have: instructon; its columns"),
        ("no column", "names no column"),
        ("{}", "is no template"),
        ("{a.b}", "does not have: a.b"),
        ("{a", "is no template"),
        ("{input!r}", "is no template"),
    ],
)
def test_a_prompt_template_that_cannot_be_filled(
    paths: Paths, channel: Channel, template: str, message: str
) -> None:
    channel("train", [{"instruction": "a", "input": "b", "output": "c"}])
    with pytest.raises(UserError, match=message):
        load_data(paths, parse_config({"method": "sft", "prompt_template": template}))
    with pytest.raises(UserError, match="has no meaning for text-classification"):
        parse_config({"method": "text-classification", "prompt_template": "{a}"})


def test_a_prompt_that_the_template_leaves_empty_is_set_aside(
    paths: Paths, channel: Channel
) -> None:
    rows = [{"a": "x", "completion": "c"}, {"a": None, "completion": "c"}]
    channel("train", rows)
    given = {"method": "sft", "prompt_template": " {a}", "max_rejected_share": 1}
    assert load_data(paths, parse_config(given)).train == [{"prompt": " x", "completion": "c"}]
    assert "no text in column prompt" in (paths.output_data / "rejected.jsonl").read_text()


@pytest.mark.parametrize(
    ("method", "row", "unread"),
    [
        ("sft", {"instruction": "a", "input": "b", "output": "c", "text": "t"}, "text"),
        ("sft", {"messages": [user("a"), assistant("b")], "source": "s", "id": 1}, "id, source"),
        ("dpo", {"prompt": "q", "chosen": "y", "rejected": "n", "score_chosen": 1}, "score_chosen"),
        ("kto", {"prompt": "q", "completion": "y", "label": 1, "origin": "x"}, "origin"),
        ("embedding", {"anchor": "a", "positive": "b", "hash": "x"}, "hash"),
    ],
)
def test_columns_that_are_not_read_are_named(
    paths: Paths, channel: Channel, method: str, row: dict[str, Any], unread: str
) -> None:
    channel("train", [row] * 3)
    notes = load_data(paths, parse_config({"method": method})).notes
    assert notes == (f"channel train: columns not read: {unread}",)


def test_messages_as_pandas_writes_them_to_csv(paths: Paths, channel: Channel) -> None:
    turns = [user("it's"), assistant("so")]
    channel("train", f'messages\n"{str(turns).replace(chr(34), chr(34) * 2)}"\n', "a.csv")
    assert load_data(paths, parse_config({"method": "sft"})).train == [{"messages": turns}]
    assert json.dumps(turns) != str(turns)
