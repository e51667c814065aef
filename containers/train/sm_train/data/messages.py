"""Messages in the forms that data sets write them, as the role and content that templates take.

Read are OpenAI's form (tool_calls, the older function_call, parts, weight), ShareGPT's (from and
value, function_call and observation turns) and mixtures of them.
"""

from __future__ import annotations

from typing import Any

from sm_train.data.cells import nested

ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})
_CALL = "function_call"  # ShareGPT's turn that calls a tool, OpenAI's former key
_ROLE_NAMES = {
    **{name: name for name in ROLES},
    "human": "user",
    "prompter": "user",
    **dict.fromkeys(
        ("gpt", "chatgpt", "bard", "bing", "claude", "model", "bot", _CALL), "assistant"
    ),
    **dict.fromkeys(("function", "observation", "function_response", "ipython"), "tool"),
}
_TEXT_PARTS = {"text": "text", "input_text": "text", "output_text": "text", "refusal": "refusal"}
IMAGE = "image"
_IMAGE_PARTS = (IMAGE, "image_url", "input_image")  # transformers', OpenAI's for chat and responses
_IMAGE_KEYS = ("image", "image_url", "url", "path", "bytes", "base64")
# Keys by which a turn says whether it is learnt: OpenAI's, Axolotl's, ms-swift's, torchtune's.
_MARKS = {"weight": False, "train": False, "loss": False, "masked": True}
_WHOLE = ("messages", "conversations")  # columns that hold a conversation from its start
Message = dict[str, Any]


def conversation(value: Any, column: str) -> list[Message]:
    """Messages with a known role each; JSON text is read, as CSV can hold nothing else.

    Raises ValueError for anything else, and for a turn that is not to be learnt: only SFT can.
    """
    messages, marks = marked_conversation(value, column)
    if False in marks:
        raise ValueError(f"{column} has a turn that is not to be learnt, which only sft honours")
    return messages


def marked_conversation(value: Any, column: str) -> tuple[list[Message], list[bool | None]]:
    """Messages, and of each whether it is to be learnt where it says so itself."""
    value = parsed(value, column, "a list of messages")
    value = [value] if isinstance(value, dict) else value
    if not isinstance(value, list) or not value:
        raise ValueError(f"{column} is not a list of messages")
    if column in _WHOLE and all(isinstance(item, str) for item in value):
        value = in_turns(value)
    return [_message(item, column) for item in value], [_mark(item, column) for item in value]


def in_turns(texts: list[str]) -> list[Message]:
    """The messages of a list of texts, as LIMA has them: user and assistant in turns."""
    roles = ("user", "assistant")
    return [{"role": roles[at % 2], "content": text} for at, text in enumerate(texts)]


def parsed(value: Any, column: str, kind: str) -> Any:
    """What a text holds as JSON (or as Python prints it); other values as they are."""
    if not isinstance(value, str):
        return value
    try:
        return nested(value)
    except ValueError:
        raise ValueError(f"{column} is not {kind}") from None


def looks_like_messages(value: Any) -> bool:
    """Whether a text is messages as JSON; an answer may well be JSON of another kind."""
    if not isinstance(value, str) or not value.lstrip().startswith("[{"):
        return False
    try:
        messages = nested(value)
    except ValueError:
        return False
    return all(isinstance(m, dict) and ("role" in m or "from" in m) for m in messages)


def _mark(message: Message, column: str) -> bool | None:
    """Whether a turn says that it is learnt, or not; None where it says nothing."""
    if message.get("mask") is not None:
        raise ValueError(f"{column} has a turn with mask, which may mean both; write weight 0 or 1")
    for key, inverted in _MARKS.items():
        given = message.get(key)
        if given is None:
            continue
        if given not in (0, 1):
            raise ValueError(f"{column} has a turn whose {key} is neither 0 nor 1")
        return bool(given) is not inverted
    return None


def _message(raw: Any, column: str) -> Message:
    """One message in the role and content form. Parquet fills the keys it lacks with null."""
    if not isinstance(raw, dict):
        raise ValueError(f"{column} is not a list of messages")
    said = raw.get("role") if raw.get("role") is not None else raw.get("from")
    role = _ROLE_NAMES.get(str(said).strip().lower())
    if role is None:
        raise ValueError(f"{column} has a message without a role of {sorted(ROLES)}")
    dropped = {"from", "value", "role", "content", "tool_calls", _CALL, "mask", *_MARKS}
    message = {key: item for key, item in raw.items() if item is not None and key not in dropped}
    content = raw.get("content") if raw.get("content") is not None else raw.get("value")
    calls = raw.get("tool_calls") or raw.get(_CALL)
    if str(said).lower() == _CALL:
        content, calls = "", content
    calls = tool_calls(calls, column) if calls else []
    if content is None and not calls and raw.get("refusal") is None:
        raise ValueError(f"{column} has a message without content")
    text = _content(content, column)
    extra = {"tool_calls": calls} if calls else {}
    return {"role": role, "content": text or message.pop("refusal", ""), **extra, **message}


def _content(content: Any, column: str) -> str | list[Message]:
    """Text, or parts where one is an image; no content, as beside tool calls, is empty content."""
    if isinstance(content, list):
        return _joined_parts(content, column)
    if content is not None and not isinstance(content, str):
        raise ValueError(f"{column} has a message whose content is not text")
    return content or ""


def _joined_parts(parts: list[Any], column: str) -> str | list[Message]:
    """The text of OpenAI's list of parts, or text and images as transformers' templates have it."""
    kinds = {str(part.get("type", "text")) if isinstance(part, dict) else "?" for part in parts}
    if kinds.intersection(_IMAGE_PARTS):
        return _parts_with_images(parts, column)
    if kinds - _TEXT_PARTS.keys():
        raise ValueError(f"{column} has a message with a part that is not text: {sorted(kinds)}")
    texts = [part.get(_TEXT_PARTS[str(part.get("type", "text"))]) for part in parts]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{column} has a message with a part that is not text: {sorted(kinds)}")
    return "".join(texts)


def _parts_with_images(parts: list[Any], column: str) -> list[Message]:
    """Each part by its type; an image that the part holds itself is kept under `image`."""
    read: list[Message] = []
    for part in parts:
        if not isinstance(part, dict) or part.get("type") not in _IMAGE_PARTS:
            read.append({"type": "text", "text": _joined_parts([part], column)})
            continue
        own = next((key for key in _IMAGE_KEYS if part.get(key) is not None), None)
        held = {} if own is None else {IMAGE: {own: part[own]}}
        place = sum(earlier["type"] == IMAGE for earlier in read)
        if own is None and isinstance(part.get("index"), int) and part["index"] < place:
            raise ValueError(f"{column} has image parts in another order than the images")
        read.append({"type": IMAGE, **held})
    return read


def parts_of(message: Message) -> list[Message]:
    """The content of a message as parts."""
    content = message.get("content")
    return list(content) if isinstance(content, list) else [{"type": "text", "text": content or ""}]


def text_in(content: Any) -> str:
    """The text of a message's content, without its images."""
    if isinstance(content, list):
        return "".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
    return str(content or "")


def text_like(message: Message, text: str) -> str | list[Message]:
    """A text as content of the form that a message has: as it is, or as parts."""
    parts = isinstance(message.get("content"), list)
    return [{"type": "text", "text": text}] if parts else text


def common_prompt(chosen: list[Message], rejected: list[Message]) -> list[Message]:
    """The messages that two conversations begin with."""
    pairs = enumerate(zip(chosen, rejected, strict=False))
    end = next((i for i, (one, other) in pairs if one != other), min(len(chosen), len(rejected)))
    return chosen[:end]


def tool_calls(value: Any, column: str) -> list[Message]:
    """Calls as templates take them: a name, and arguments that are an object, not JSON text."""
    value = parsed(value, column, "a list of tool calls")
    return [_call(item, column) for item in (value if isinstance(value, list) else [value])]


def _call(call: Any, column: str) -> Message:
    function = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise ValueError(f"{column} has a tool call without the name of a function")
    arguments = function.get("arguments", function.get("parameters"))
    if isinstance(arguments, str) and arguments.strip():
        arguments = parsed(arguments, f"{column}: the arguments of a tool call", "a JSON object")
    arguments = arguments or {}
    if not isinstance(arguments, dict):
        raise ValueError(f"{column}: the arguments of a tool call are not a JSON object")
    given = {key: call[key] for key in ("id", "index") if call.get(key) is not None}
    named = {"name": function["name"], "arguments": arguments}
    return {**given, "type": "function", "function": named}


def tool_schemas(value: Any, column: str) -> list[Message]:
    """The tools that a conversation may call, each as {"type": "function", "function": …}."""
    value = parsed(value, column, "a list of JSON schemas")
    if not isinstance(value, list) or not all(isinstance(tool, dict) for tool in value):
        raise ValueError(f"{column} is not a list of JSON schemas")
    return [_schema(tool) for tool in value]


def _schema(tool: Message) -> Message:
    """Bare functions, as ShareGPT and OpenAI's former key have them, are wrapped."""
    bare = "function" not in tool and "name" in tool
    return {"type": "function", "function": tool} if bare else tool
