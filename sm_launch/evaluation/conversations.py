"""What a row asks and what answer it expects, read as training reads it.

A row may be of OpenAI's form, ShareGPT's (`from`, `value`), UltraFeedback's (a text prompt beside
whole conversations), Orca's (a column for the system message) or HH's (a dialogue as one text). A
model has to be asked as it was taught: in messages where training made messages, else by the text.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sm_launch.data.messages import ROLES
from sm_launch.evaluation.example import Row, UnusableRow, missing, required_text

Message = dict[str, Any]
SYSTEM_COLUMNS = ("system", "system_prompt")
BEFORE_ANSWERS = ("system", "developer", "user")
_CALL = "function_call"
_NOT_SENT = frozenset({"from", "value", "weight", "train", "loss", "masked"})
"""ShareGPT's names, and marks by which a turn says whether it is learnt."""
_HH_ANSWER = "\n\nAssistant:"


def messages_of(value: Any) -> list[Message] | None:
    """The messages of a cell, each with a role and content; None for a text.

    Raises:
        UnusableRow: a list of something else.
    """
    if isinstance(value, str) and value.lstrip().startswith("[{"):
        try:
            value = json.loads(value)
        except ValueError:
            return None
    if not isinstance(value, list):
        return None
    if not value:
        raise UnusableRow("an empty list, or one of something else than messages")
    return [_message(item) for item in value]


def _message(item: Any) -> Message:
    said = (item.get("role") or item.get("from")) if isinstance(item, dict) else None
    role = ROLES.get(str(said).strip().lower())
    if role is None:
        raise UnusableRow("a list of something else than messages")
    content = item.get("content") if item.get("content") is not None else item.get("value")
    kept = {k: v for k, v in item.items() if v is not None and k not in _NOT_SENT}
    if str(said).strip().lower() == _CALL:
        kept["tool_calls"] = _calls(content)
        content = None
    role = "developer" if said == "developer" else role
    return {**kept, "role": role, "content": content if content is not None else ""}


def _calls(text: Any) -> list[Message]:
    """ShareGPT's call of a tool as OpenAI has it."""
    call = json.loads(text) if isinstance(text, str) else text
    calls = call if isinstance(call, list) else [call]
    return [
        {
            "type": "function",
            "function": {**one, "arguments": json.dumps(one.get("arguments") or {})},
        }
        for one in calls
    ]


def asked_and_expected(row: Row, asks: str, expects: str) -> tuple[str | list[Message], str]:
    """The prompt of a row, as text or messages, and the answer that is expected.

    Args:
        row: as the data has it.
        asks: the column of the prompt; the same as `expects` where one column holds both.
        expects: the column of the answer.

    Raises:
        UnusableRow: there is none.
    """
    answer = messages_of(row.get(expects))
    if asks == expects:
        if answer is None:
            return _in_one(row, expects)
        return _ended(answer if expects == "chosen" else _with_system(answer, row))
    prompt = messages_of(row.get(asks))
    if prompt is None and answer is None and not any(name in row for name in SYSTEM_COLUMNS):
        return required_text(row, asks, "prompt"), required_text(row, expects, "completion")
    if answer is None:
        answer = [{"role": "assistant", "content": required_text(row, expects, "completion")}]
    return _ended(with_prompt(prompt, answer, row, asks))


def with_prompt(
    prompt: list[Message] | None, answer: list[Message], row: Row, asks: str
) -> list[Message]:
    """The conversation of a prompt and an answer, which may hold the prompt itself.

    Raises:
        UnusableRow: neither has one.
    """
    if answer[0]["role"] in BEFORE_ANSWERS:
        return answer
    if prompt is None:
        prompt = [{"role": "user", "content": required_text(row, asks, "prompt")}]
    return [*_with_system(prompt, row), *answer]


def _with_system(messages: list[Message], row: Row) -> list[Message]:
    """Behind the system message that stands in a column of its own."""
    text = next((str(row[n]) for n in SYSTEM_COLUMNS if not missing(row.get(n))), "")
    if not text or messages[0]["role"] == "system":
        return messages
    return [{"role": "system", "content": text}, *messages]


def _ended(messages: list[Message]) -> tuple[list[Message], str]:
    """A conversation without its last message, and that."""
    last = messages[-1]
    if last["role"] != "assistant" or missing(last["content"]):
        raise UnusableRow("the last message is not an answer of the assistant")
    if len(messages) == 1:
        raise UnusableRow("there is no message before the answer")
    return messages[:-1], _text(last["content"])


def _text(content: Any) -> str:
    """Of a message's content, which may be a list of parts."""
    if not isinstance(content, list):
        return str(content)
    return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))


def _in_one(row: Row, column: str) -> tuple[str, str]:
    """The prompt that a chosen text begins with: what the rejected one has in common with it."""
    text = required_text(row, column, "completion")
    other = row.get("rejected")
    if missing(other) or not isinstance(other, str):
        raise UnusableRow(f"nothing tells the prompt of {column!r} from its answer")
    common = _common_length(text, other)
    end = text.rfind(_HH_ANSWER, 0, common)
    place = end + len(_HH_ANSWER) if end >= 0 else common - text[:common].endswith(" ")
    if not text[:place].strip() or not text[place:].strip():
        raise UnusableRow(f"{column!r} and 'rejected' do not begin with the same prompt")
    return text[:place], text[place:]


def _common_length(one: Sequence[str], other: Sequence[str]) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))
