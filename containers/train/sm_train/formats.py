"""TRL's data formats, checked: text or messages as prompt, completion, chosen, rejected."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from sm_train.errors import UserError

if TYPE_CHECKING:
    from sm_train.config import Config
    from sm_train.data import Data

ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})
# ShareGPT's names of the roles; TRL reads them too.
_SHAREGPT_ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "system": "system",
    "tool": "tool",
}
# What goes along with a conversation, as TRL's "Dataset formats" documents it.
_COMPANIONS = ("tools", "chat_template_kwargs")
# What people call the columns that TRL wants, to say how to rename them.
_OTHER_NAMES = {
    "prompt": ("question", "instruction", "query", "input", "problem"),
    "completion": ("answer", "response", "output", "solution"),
    "messages": ("conversation", "dialogue", "dialog", "chat"),
    "text": ("content", "document", "body"),
    "chosen": ("preferred", "accepted", "response_chosen"),
    "rejected": ("dispreferred", "response_rejected"),
    "label": ("labels", "class", "category", "rating", "thumbs_up"),
    "answers": ("answer",),
    "context": ("passage", "document", "text"),
    "tokens": ("words",),
    "tags": ("ner_tags", "pos_tags", "labels"),
}


def turn(value: Any, column: str) -> Any:
    """A text, or a list of messages (maybe as JSON). Raises ValueError for anything else."""
    if isinstance(value, list) or _looks_like_messages(value):
        return conversation(value, column)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"no text in column {column}")
    return value


def _looks_like_messages(value: Any) -> bool:
    """Whether a text is messages as JSON; an answer may well be JSON of another kind."""
    if not isinstance(value, str) or not value.lstrip().startswith("[{"):
        return False
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        return False
    return all(isinstance(m, dict) and ("role" in m or "from" in m) for m in found)


def conversation(value: Any, column: str) -> list[dict[str, Any]]:
    """Messages with a known role each; JSON text is read, as CSV can hold nothing else."""
    value = _parsed(value, column)
    if not isinstance(value, list) or not value:
        raise ValueError(f"{column} is not a list of messages")
    return [_message(message, column) for message in value]


def _parsed(value: Any, column: str) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise ValueError(f"{column} is not a list of messages") from None


def _message(message: Any, column: str) -> dict[str, Any]:
    """One message in the role and content form. Parquet fills the keys it lacks with null."""
    if isinstance(message, dict) and "from" in message and "role" not in message:
        role = _SHAREGPT_ROLES.get(str(message["from"]).lower())
        message = {"role": role, "content": message.get("value")}
    if not isinstance(message, dict) or message.get("role") not in ROLES:
        raise ValueError(f"{column} has a message without a role of {sorted(ROLES)}")
    message = {k: v for k, v in message.items() if v is not None or k == "content"}
    content = message.get("content")
    if isinstance(content, list):
        content = _joined_parts(content, column)
    if content is None and not message.get("tool_calls"):
        raise ValueError(f"{column} has a message without content")
    if content is not None and not isinstance(content, str):
        raise ValueError(f"{column} has a message whose content is not text")
    return {**message, "content": content} if "content" in message else message


def _joined_parts(parts: list[Any], column: str) -> str:
    """The text of OpenAI's list of parts; language models take no other kind."""
    kinds = {str(part.get("type", "text")) if isinstance(part, dict) else "?" for part in parts}
    if kinds - {"text"} or not all(isinstance(part.get("text"), str) for part in parts):
        raise ValueError(f"{column} has a message with a part that is not text: {sorted(kinds)}")
    return "".join(part["text"] for part in parts)


def companions(row: dict[str, Any]) -> dict[str, Any]:
    """The columns that may stand beside a conversation, where they are set."""
    found = {key: row[key] for key in _COMPANIONS if row.get(key)}
    if isinstance(found.get("tools"), str):
        found["tools"] = _parsed(found["tools"], "tools")
    if not isinstance(found.get("tools", []), list):
        raise ValueError("tools is not a list of JSON schemas")
    kwargs = found.get("chat_template_kwargs")
    if kwargs is not None and not isinstance(_parsed(kwargs, "chat_template_kwargs"), dict):
        raise ValueError("chat_template_kwargs is not a JSON object")
    if isinstance(kwargs, str):
        found["chat_template_kwargs"] = _parsed(kwargs, "chat_template_kwargs")
    return found


def prompted(row: dict[str, Any], *answers: str) -> dict[str, Any]:
    """`prompt` (where the row has one) and the answers, all text or all messages.

    Text beside messages becomes a message, and answers that repeat the prompt lose it:
    UltraFeedback and its like hold a text prompt beside whole conversations.
    """
    turns = {name: turn(row.get(name), name) for name in answers}
    prompt = None if row.get("prompt") is None else turn(row["prompt"], "prompt")
    chats = [v for v in (prompt, *turns.values()) if isinstance(v, list)]
    if not chats:
        return turns if prompt is None else {"prompt": prompt, **turns}
    for name, value in turns.items():
        if isinstance(value, str):
            turns[name] = [{"role": "assistant", "content": value}]
    if prompt is None:
        return turns
    prompt = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    if all(value[: len(prompt)] == prompt and len(value) > len(prompt) for value in turns.values()):
        return {"prompt": prompt, **{n: v[len(prompt) :] for n, v in turns.items()}}
    if all(value[0]["role"] in ("system", "developer", "user") for value in turns.values()):
        return turns  # whole conversations: their common beginning is the prompt
    return {"prompt": prompt, **turns}


def answered(row: dict[str, Any]) -> dict[str, Any]:
    """`prompt` and `completion`. Raises ValueError where the completion is to another prompt."""
    turns = prompted(row, "completion")
    if "prompt" not in turns:
        raise ValueError("no text in column prompt, or completion does not begin with it")
    return turns


def preference_row(row: dict[str, Any], _config: Config) -> dict[str, Any]:
    """`chosen` and `rejected`, with the prompt apart or inside both. Raises ValueError."""
    turns = prompted(row, "chosen", "rejected")
    if turns["chosen"] == turns["rejected"]:
        raise ValueError("chosen and rejected are the same")
    if "prompt" not in turns and isinstance(turns["chosen"], list):
        _check_common_prompt(turns["chosen"], turns["rejected"])
    return {**turns, **companions(row)}


def _check_common_prompt(chosen: list[Any], rejected: list[Any]) -> None:
    if chosen[0] != rejected[0]:
        raise ValueError("chosen and rejected do not begin with the same prompt")


def preference_columns(_config: Config) -> list[tuple[str, ...]]:
    """What every preference row needs."""
    return [("chosen",), ("rejected",)]


def prompt_row(row: dict[str, Any], _config: Config) -> dict[str, Any]:
    """`prompt`, and every other column as it is: reward functions get them by name."""
    return {**row, "prompt": turn(row.get("prompt"), "prompt")}


def reads_prompt(_config: Config, name: str) -> bool:
    """Of an online method's columns these alone are text for sure; rewards get the others."""
    return name in ("prompt", *_COMPANIONS)


def prompt_columns(_config: Config) -> list[tuple[str, ...]]:
    """What every row of an online method needs."""
    return [("prompt",)]


def check_one_format(_config: Config, data: Data) -> None:
    """A data set is of one format: TRL decides by its first row how all are read."""
    _check_formats(data, ("prompt", "completion", "chosen", "rejected"))


def check_prompts(_config: Config, data: Data) -> None:
    """Prompts are all text or all messages; other columns are the rewards' business."""
    _check_formats(data, ("prompt",))


def _check_formats(data: Data, names: tuple[str, ...]) -> None:
    counts: Counter[str] = Counter()
    for split in ("train", "validation", "test"):
        counts.update(_format(row, names) for row in data.split(split) or ())
    if len(counts) > 1:
        found = ", ".join(f"{count} rows with {name}" for name, count in counts.most_common())
        raise UserError(
            f"mix formats: {found}",
            field="channels",
            fix="use the same columns, and text or messages, in every row of every channel",
        )


def _format(row: dict[str, Any], names: tuple[str, ...]) -> str:
    parts = [
        f"{name} ({'text' if isinstance(row[name], str) else 'messages'})"
        for name in names
        if name in row
    ]
    return " + ".join(parts or sorted(row.keys() - set(_COMPANIONS)))


def is_conversational(row: dict[str, Any]) -> bool:
    """Whether a cleaned row needs a chat template."""
    names = ("messages", "prompt", "chosen")
    return any(isinstance(row.get(name), list) for name in names)


def renaming(wanted: tuple[str, ...], seen: set[str]) -> dict[str, str]:
    """The `columns` setting that would give the data one of the wanted columns, if one is near."""
    for name in wanted:
        near = next((other for other in _OTHER_NAMES.get(name, ()) if other in seen), None)
        if near:
            return {near: name}
    return {}
