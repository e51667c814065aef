"""Answers in channels, as OpenAI's harmony format has them (gpt-oss): marks and how they are known.

An answer is one or more messages: `<|channel|>analysis<|message|>…<|end|>` is a thought,
`<|channel|>final<|message|>…<|return|>` the answer, ` to=functions.NAME<|channel|>commentary
json<|message|>{…}<|call|>` a tool call. All but the first begin with `<|start|>assistant`, which of
the first stands in the prompt. Source: openai/harmony, docs/format.md. Where a template names
recipients alone (`to=self` a thought, `to=user` the answer; Muse), messages end with `<|eom|>` and
the turn with `<|eot|>`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

START, CHANNEL, MESSAGE, END = "<|start|>", "<|channel|>", "<|message|>", "<|end|>"
CALL, RETURN, CONSTRAIN = "<|call|>", "<|return|>", "<|constrain|>"
MESSAGE_END, TURN_END = "<|eom|>", "<|eot|>"
MARKS = (START, CHANNEL, MESSAGE, END, CALL, RETURN, CONSTRAIN, MESSAGE_END, TURN_END)
LAST = (CALL, RETURN, TURN_END)
"""After these it is not the model's turn any more."""
FINAL = f"{CHANNEL}final{MESSAGE}"
TO_USER = f" to=user{MESSAGE}"
FIRST = f"{START}assistant"
TAIL_TOKENS = 64
"""Of a prompt, enough to hold how it begins an answer, even in tokens of one byte each."""
_TO_SELF = "to=self"
_CHANNEL = re.compile(rf"{re.escape(CHANNEL)}\s*(\w+)")
_RECIPIENT = re.compile(r"(?:^|\s|\|>)to=((?:(?!<\|)\S)*)")


def knows_channels(chat_template: str, tokenizer: Any = None) -> bool:
    """Whether a chat template has its model answer in channels, by its marks or also by a token."""
    if START not in chat_template or MESSAGE not in chat_template:
        return False
    return _TO_SELF in chat_template or names_channels(chat_template, tokenizer)


def names_channels(chat_template: str, tokenizer: Any = None) -> bool:
    """Whether messages have a channel, and not a recipient alone."""
    return CHANNEL in chat_template or (
        tokenizer is not None and CHANNEL in tokenizer.get_added_vocab()
    )


def recipient(header: str) -> str:
    """To whom a message goes by its header: a function, a tool, nobody."""
    match = _RECIPIENT.search(header)
    return match[1] if match else ""


def is_thought(header: str) -> bool:
    """Whether a message is a thought by its header."""
    channel = _CHANNEL.search(header)
    return recipient(header) == "self" or (channel is not None and channel[1] == "analysis")


def opened_message(prompt: str) -> str:
    """How a prompt begins the answer's first message: its header, and maybe some of its text.

    One that ends far within a message, as where a client's own is continued, is in its answer.
    """
    _, start, message = prompt.rpartition(START)
    return f"{start}{message}" if start else f"{FIRST}{FINAL}"


def breaks_off(answer: str) -> bool:
    """Whether an answer is thoughts alone."""
    headers = [part.rpartition(START)[2] for part in answer.split(MESSAGE)[:-1]]
    return bool(headers) and all(map(is_thought, headers))


def with_thinking(messages: Sequence[dict[str, Any]], chat_template: str) -> list[dict[str, Any]]:
    """Messages with their thoughts under the name by which a template of this format has them.

    Beside a call it takes a thought or a text, not both: such a text was said before the call and
    is told at the thought's end.
    """
    if "thinking" not in chat_template or "reasoning_content" in chat_template:
        return [*messages]
    return [_with_thinking(message) for message in messages]


def _with_thinking(message: dict[str, Any]) -> dict[str, Any]:
    thought = message.get("reasoning_content") or message.get("reasoning")
    if message["role"] != "assistant" or not isinstance(thought, str) or message.get("thinking"):
        return message
    if message.get("tool_calls") and message.get("content"):
        return {**message, "thinking": f"{thought}\n\n{message['content']}", "content": ""}
    return {**message, "thinking": thought}
