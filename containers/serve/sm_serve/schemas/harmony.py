"""Answers in channels, as OpenAI's harmony format has them (gpt-oss): marks and how they are known.

An answer is one or more messages: `<|channel|>analysis<|message|>…<|end|>` is a thought,
`<|channel|>final<|message|>…<|return|>` the answer, ` to=functions.NAME<|channel|>commentary
json<|message|>{…}<|call|>` a tool call. All but the first begin with `<|start|>assistant`, which of
the first stands in the prompt. Source: openai/harmony, docs/format.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

START, CHANNEL, MESSAGE, END = "<|start|>", "<|channel|>", "<|message|>", "<|end|>"
CALL, RETURN, CONSTRAIN = "<|call|>", "<|return|>", "<|constrain|>"
MARKS = (START, CHANNEL, MESSAGE, END, CALL, RETURN, CONSTRAIN)
LAST = (CALL, RETURN)
"""After these it is not the model's turn any more."""
FINAL = f"{CHANNEL}final{MESSAGE}"
FIRST = f"{START}assistant"
TAIL_TOKENS = 64
"""Of a prompt, enough to hold how it begins an answer, even in tokens of one byte each."""


def knows_channels(chat_template: str, tokenizer: Any = None) -> bool:
    """Whether a chat template has its model answer in channels, by its marks or also by a token."""
    if START not in chat_template or MESSAGE not in chat_template:
        return False
    return CHANNEL in chat_template or (
        tokenizer is not None and CHANNEL in tokenizer.get_added_vocab()
    )


def opened_message(prompt: str) -> str:
    """How a prompt begins the answer's first message: its header, and maybe some of its text.

    One that ends far within a message, as where a client's own is continued, is in its answer.
    """
    _, start, message = prompt.rpartition(START)
    return f"{start}{message}" if start else f"{FIRST}{FINAL}"


def names_channel(message: str) -> bool:
    """Whether the header of an opened message is complete."""
    return MESSAGE in message


def breaks_off(answer: str) -> bool:
    """Whether an answer is thoughts alone."""
    channel = answer.rpartition(CHANNEL)[2].lstrip()
    return channel.startswith("analysis") and FINAL not in answer


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
