"""Whether a chat template shows tools, calls and results, or leaves them out without a word."""

from __future__ import annotations

import copy
from typing import Any

from sm_train.data.messages import Message

_OTHER = "another value"


def check_tools_shown(
    tokenizer: Any, messages: list[Message], tools: Any, options: dict[str, Any]
) -> None:
    """Raise ValueError naming what the template leaves out: rendered otherwise it looks the same.

    `options`: more arguments for apply_chat_template.
    """
    given = tools or None

    def rendered(changed: list[Message], shown: Any) -> str | None:
        return _rendered(tokenizer, changed, shown, options)

    if not given and not any(_uses_tools(message) for message in messages):
        return
    as_it_is = rendered(messages, given)
    hidden = []
    if given and as_it_is == rendered(messages, None):
        hidden.append("tools")
    for what, change in (
        ("the name of a tool that is called", _rename_calls),
        ("the arguments of a tool call", _change_arguments),
        ("what a tool answered", _change_results),
    ):
        changed = copy.deepcopy(messages)
        if change(changed) and as_it_is == rendered(changed, given):
            hidden.append(what)
    if hidden:
        raise ValueError(
            f"the chat template does not show {', '.join(hidden)}; set chat_template to one that "
            "does, such as qwen3 or llama3_1"
        )


def _rendered(
    tokenizer: Any, messages: list[Message], tools: Any, options: dict[str, Any]
) -> str | None:
    """The text; None where the template refuses it, which is not leaving it out."""
    from jinja2 import TemplateError

    try:
        text: str = tokenizer.apply_chat_template(messages, tokenize=False, tools=tools, **options)
    except (TemplateError, TypeError, ValueError, KeyError, AttributeError):
        return None
    return text


def _uses_tools(message: Message) -> bool:
    return bool(message.get("tool_calls")) or message["role"] == "tool"


def _functions(messages: list[Message]) -> list[dict[str, Any]]:
    calls = [call for message in messages for call in message.get("tool_calls") or ()]
    return [call["function"] for call in calls]


def _rename_calls(messages: list[Message]) -> bool:
    functions = _functions(messages)
    for function in functions:
        function["name"] = "another_name"
    return bool(functions)


def _change_arguments(messages: list[Message]) -> bool:
    functions = [function for function in _functions(messages) if function["arguments"]]
    for function in functions:
        function["arguments"] = dict.fromkeys(function["arguments"], _OTHER)
    return bool(functions)


def _change_results(messages: list[Message]) -> bool:
    results = [message for message in messages if message["role"] == "tool"]
    for message in results:
        message["content"] = _OTHER
    return bool(results)
