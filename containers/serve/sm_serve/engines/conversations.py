"""Conversations as an encoder's inputs: what a reward model judges, by its own chat template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sm_serve.errors import BadInput, BadRequest

_KEYS = ("messages", "tools", "chat_template_kwargs")


def rendered(tokenizer: Any, inputs: Sequence[Any]) -> list[str] | None:
    """The text of each {"messages": …}, special tokens included; None where inputs are texts.

    Raises BadRequest for conversations beside texts, and for what the template refuses.
    """
    told = [isinstance(item, Mapping) and "messages" in item for item in inputs]
    if not any(told):
        return None
    if not all(told):
        raise BadInput(told.index(False), ".messages is missing: give it for all inputs or none")
    if not tokenizer.chat_template:
        raise BadRequest(
            "the model has no chat template: send texts, or save one with the tokenizer",
            code="no_chat_template",
        )
    return [_render(tokenizer, item, index) for index, item in enumerate(inputs)]


def _render(tokenizer: Any, item: Mapping[str, Any], index: int) -> str:
    for name in sorted(set(item) - set(_KEYS)):
        raise BadInput(index, f".{name} is unknown: give {', '.join(_KEYS)}")
    messages = item["messages"]
    if not isinstance(messages, list) or not all(isinstance(turn, dict) for turn in messages):
        raise BadInput(index, ".messages must be a list of objects with role and content")
    options = item.get("chat_template_kwargs") or {}
    if not isinstance(options, dict):
        raise BadInput(index, ".chat_template_kwargs must be an object")
    try:
        text: str = tokenizer.apply_chat_template(
            messages, tools=item.get("tools") or None, **{**options, "tokenize": False}
        )
    except Exception as error:  # templates raise whatever their authors chose
        reason = f".messages: the chat template refuses them: {error}"
        raise BadInput(index, reason) from error
    return text
