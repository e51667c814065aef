"""Conversations in a row: checked for what every trainer needs, cleaned, else left alone."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

ROLES = {
    "system": "system",
    "developer": "system",
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "bard", "bing", "claude", "model", "bot"),
                    "assistant"),
    "function_call": "assistant",
    **dict.fromkeys(("tool", "function", "observation", "function_response", "ipython"), "tool"),
}  # fmt: skip
"""OpenAI's and ShareGPT's names of the roles, and what they are."""
_CALLS = ("tool_calls", "function_call")
_SHOWN_CHARACTERS = 60


def looks_like_messages(value: Any) -> bool:
    """Whether a cell is a conversation, maybe as JSON: an answer may be JSON of another kind."""
    if isinstance(value, str):
        if not value.lstrip().startswith("[{"):
            return False
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return False
    return isinstance(value, list) and all(
        isinstance(item, dict) and ("role" in item or "from" in item) for item in value
    )


def read_messages(
    value: Any, clean: Callable[[str], str], *, whole: bool = False
) -> list[dict[str, Any]]:
    """The messages of a cell, each with its text cleaned and its other keys as they were.

    `whole`: they are a conversation from its start, which may be a list of texts.

    Raises:
        ValueError: it is no list of messages with known roles and a content.
    """
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"not valid JSON: {error}") from error
    if whole and isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        value = in_turns(value)
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise ValueError("not a list of {role, content}")
    return [_message(item, index, clean) for index, item in enumerate(value)]


def in_turns(texts: list[str]) -> list[dict[str, Any]]:
    """The messages of a list of texts, as LIMA has them: user and assistant in turns."""
    roles = ("user", "assistant")
    return [{"role": roles[at % 2], "content": text} for at, text in enumerate(texts)]


def framed(name: str, text: str, *, has_prompt: bool) -> list[dict[str, Any]]:
    """A text as the messages that it stands for.

    Args:
        name: prompt, or what kind of answer.
        text: cleaned.
        has_prompt: whether the prompt is in a column of its own.

    Raises:
        ValueError: an answer that holds its prompt in a form that nobody knows.
    """
    if name == "prompt":
        return [{"role": "user", "content": text}]
    if has_prompt:
        return [{"role": "assistant", "content": text}]
    speakers = {"Human": "user", "Assistant": "assistant"}
    parts = re.split(r"(?:^|\n\n)(Human|Assistant):", text)
    if parts[0].strip() or len(parts) < 5:
        raise ValueError(
            "holds prompt and answer in one text that is no dialogue of Human: and Assistant:, so "
            "that no messages can be made of it; name the prompt's column in data.columns, or "
            "remove data.conversational"
        )
    turns = list(zip(parts[1::2], parts[2::2], strict=True))
    if any(not said.strip() for _, said in turns):
        raise ValueError("a turn of the dialogue is empty")
    return [{"role": speakers[who], "content": said.strip()} for who, said in turns]


def role(message: dict[str, Any]) -> str | None:
    """system, user, assistant or tool; None: none of them."""
    return ROLES.get(str(message.get("role") or message.get("from")).strip().lower())


def check_answered(messages: list[dict[str, Any]]) -> None:
    """A conversation that is to be learnt has a question and ends by its answer.

    Raises:
        ValueError: it does not.
    """
    roles = [role(message) for message in messages]
    if "user" not in roles or roles[-1] != "assistant":
        raise ValueError(f"needs a user and ends by assistant: {roles}")


def joined(messages: list[dict[str, Any]]) -> str:
    """The conversation as one text, to compare and to measure."""
    return "\n".join(
        f"{role(message)}: {_shown(message)}" for message in messages if isinstance(message, dict)
    )


def _shown(message: dict[str, Any]) -> str:
    content = message.get("content", message.get("value"))
    calls = [message[key] for key in _CALLS if message.get(key)]
    parts = [content if isinstance(content, str) else json.dumps(content, default=str)]
    return " ".join([*parts, *(json.dumps(call, default=str) for call in calls)])


def _message(item: dict[str, Any], index: int, clean: Callable[[str], str]) -> dict[str, Any]:
    # Parquet fills the keys that a message lacks with null.
    item = {key: value for key, value in item.items() if value is not None or key == "content"}
    name = item.get("role", item.get("from"))
    if role(item) is None:
        raise ValueError(f"message {index}: role {_short(name)} is unknown")
    if role(item) == "system" and index:
        raise ValueError(f"message {index}: system must come first")
    key = "content" if "role" in item else "value"
    content = item.get(key)
    if isinstance(content, str) and content.strip():
        return {**item, key: clean(content)}
    calls = any(item.get(call) for call in _CALLS)
    listed = content if isinstance(content, list) else []
    parts = bool(listed) and all(isinstance(part, dict) for part in listed)
    if not parts and not (calls and content in (None, "")):
        raise ValueError(f"message {index}: content {_short(content)}")
    if parts and any(part.get("type") == "image" for part in listed):
        raise ValueError(f"message {index}: an image, whose file would not be carried")
    return item


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= _SHOWN_CHARACTERS else shown[:_SHOWN_CHARACTERS] + "…"
