"""TRL's data formats, checked: text or messages as prompt, completion, chosen, rejected."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sm_train.config import Config

ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})
# What goes along with a conversation, as TRL's "Dataset formats" documents it.
_COMPANIONS = ("tools", "chat_template_kwargs")


def turn(value: Any, column: str) -> Any:
    """A text, or a list of messages (maybe as JSON). Raises ValueError for anything else."""
    if isinstance(value, list) or (isinstance(value, str) and value.lstrip().startswith("[{")):
        return conversation(value, column)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"no text in column {column}")
    return value


def conversation(value: Any, column: str) -> list[dict[str, Any]]:
    """Messages with a known role each; JSON text is read, as CSV can hold nothing else."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise ValueError(f"{column} is not a list of messages") from None
    if not isinstance(value, list) or not value:
        raise ValueError(f"{column} is not a list of messages")
    for message in value:
        if not isinstance(message, dict) or message.get("role") not in ROLES:
            raise ValueError(f"{column} has a message without a role of {sorted(ROLES)}")
        if message.get("content") is None and not message.get("tool_calls"):
            raise ValueError(f"{column} has a message without content")
    return value


def companions(row: dict[str, Any]) -> dict[str, Any]:
    """The columns that may stand beside a conversation, where they are set."""
    return {key: row[key] for key in _COMPANIONS if row.get(key)}


def same_kind(**turns: Any) -> None:
    """Raise ValueError when some columns are text and others are messages."""
    if len({isinstance(value, str) for value in turns.values()}) > 1:
        raise ValueError(f"{' and '.join(turns)} must all be text or all be messages")


def preference_row(row: dict[str, Any], _config: Config) -> dict[str, Any]:
    """`chosen` and `rejected`, with the prompt apart or inside both. Raises ValueError."""
    turns = {name: turn(row.get(name), name) for name in ("chosen", "rejected")}
    if row.get("prompt") is not None:
        turns = {"prompt": turn(row["prompt"], "prompt"), **turns}
    same_kind(**turns)
    if turns["chosen"] == turns["rejected"]:
        raise ValueError("chosen and rejected are the same")
    return {**turns, **companions(row)}


def preference_columns(_config: Config) -> list[tuple[str, ...]]:
    """What every preference row needs."""
    return [("chosen",), ("rejected",)]


def prompt_row(row: dict[str, Any], _config: Config) -> dict[str, Any]:
    """`prompt`, and every other column as it is: reward functions get them by name."""
    return {**row, "prompt": turn(row.get("prompt"), "prompt")}


def prompt_columns(_config: Config) -> list[tuple[str, ...]]:
    """What every row of an online method needs."""
    return [("prompt",)]
