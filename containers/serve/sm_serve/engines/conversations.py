"""Conversations by a model's own chat template: prompts, and what a reward model judges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sm_serve.errors import BadInput, BadPrompt, BadRequest

_KEYS = ("messages", "tools", "chat_template_kwargs")


def render(tokenizer: Any, messages: Any, tools: Any, options: Mapping[str, Any]) -> str:
    """A conversation's text by the chat template, special tokens included.

    Raises BadRequest where there is no template, BadPrompt for what it refuses.
    """
    if not (tokenizer.chat_template or options.get("chat_template")):
        raise BadRequest(
            "the model has no chat template: send plain texts, or save one with the tokenizer",
            code="no_chat_template",
        )
    try:
        told = {**options, "tokenize": False}
        return str(tokenizer.apply_chat_template(messages, tools=tools or None, **told))
    except BadRequest:
        raise
    except Exception as error:  # templates raise whatever their authors chose
        raise BadPrompt(f"the chat template refuses them: {error}") from error


def rendered(tokenizer: Any, inputs: Sequence[Any]) -> list[str] | None:
    """The text of each {"messages": …}, special tokens included; None where inputs are texts.

    Raises BadRequest for conversations beside texts, and for what the template refuses.
    """
    told = [isinstance(item, Mapping) and "messages" in item for item in inputs]
    if not any(told):
        return None
    if not all(told):
        raise BadInput(told.index(False), ".messages is missing: give it for all inputs or none")
    return [_text_of(tokenizer, item, index) for index, item in enumerate(inputs)]


def _text_of(tokenizer: Any, item: Mapping[str, Any], index: int) -> str:
    for name in sorted(set(item) - set(_KEYS)):
        raise BadInput(index, f".{name} is unknown: give {', '.join(_KEYS)}")
    messages = item["messages"]
    if not isinstance(messages, list) or not all(isinstance(turn, dict) for turn in messages):
        raise BadInput(index, ".messages must be a list of objects with role and content")
    options = item.get("chat_template_kwargs") or {}
    if not isinstance(options, dict):
        raise BadInput(index, ".chat_template_kwargs must be an object")
    try:
        return render(tokenizer, messages, item.get("tools"), options)
    except BadPrompt as error:
        raise BadInput(index, f".messages: {error.message}") from error
