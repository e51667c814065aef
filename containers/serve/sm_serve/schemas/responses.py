"""OpenAI's Responses API: its bodies, as those of chat completions that mean the same.

Nothing is kept between requests: a conversation comes whole, as items of `input`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sm_serve.errors import BadRequest
from sm_serve.protocol import UNTOLD, Sampling
from sm_serve.schemas import openai
from sm_serve.schemas.field_table import RESPONSES as FIELDS
from sm_serve.schemas.field_table import VLLMS
from sm_serve.schemas.fields import Values
from sm_serve.schemas.openai import Job, require_object

ITEMS = "message, function_call, function_call_output and reasoning"
TEXT_PARTS = ("input_text", "output_text", "text", "reasoning_text", "summary_text")
CHAT_NAMES = {
    "response_format.json_schema": "text.format",
    "response_format": "text.format",
    "reasoning_effort": "reasoning.effort",
    "messages": "input",
}
"""What errors call the fields of the chat that a body is read as, and what its own are called."""

REPEATED = ("instructions", "max_output_tokens", "metadata", "parallel_tool_calls", "reasoning",
            "text", "tool_choice", "tools", "user")  # fmt: skip
"""Fields that a response tells again."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A parsed request, and the fields that its answer repeats."""

    job: Job
    fields: Mapping[str, Any]


def parse_responses(body: Any, defaults: Sampling = UNTOLD) -> Asked:
    """A request, whose sampling is `defaults` where it says nothing. Raises BadRequest."""
    fields = Values(FIELDS, require_object(body))
    chat: dict[str, Any] = {
        "messages": read_items(fields),
        "max_completion_tokens": fields.get("max_output_tokens"),
        "response_format": _read_format(fields),
        "tools": [_read_tool(tool, i) for i, tool in enumerate(fields.get("tools", []))] or None,
        "tool_choice": _read_choice(fields),
        "reasoning_effort": _read_effort(fields),
    }
    for name in ("model", "temperature", "top_p", "stream", "parallel_tool_calls", *VLLMS):
        chat[name] = fields.get(name)
    if not chat["tools"]:  # true by clients' default, of tools that are not there
        chat["parallel_tool_calls"] = None
    try:
        job = openai.parse_generation(openai.CHAT, chat, defaults)
    except BadRequest as error:
        raise renamed(error) from error
    sampling = job.requests[0].sampling
    repeated = {name: fields[name] for name in REPEATED if name in fields}
    chosen = {"temperature": sampling.temperature, "top_p": sampling.top_p}
    return Asked(job, {**repeated, **chosen})


def renamed(error: BadRequest) -> BadRequest:
    """An error about the chat, with the names that its fields have in a body of this API."""
    message = error.message
    for name, own in CHAT_NAMES.items():
        if message.startswith(name):
            return BadRequest(own + message.removeprefix(name), code=error.code)
    return error


def _read_format(fields: Values) -> dict[str, Any] | None:
    """`text.format` as chat's response_format."""
    given = dict(fields.get("text", {}))
    form = given.pop("format", None)
    if given.pop("verbosity", None) not in (None, "medium"):
        raise BadRequest("text.verbosity: this server does not offer it: leave it out")
    if given:
        raise BadRequest(f"text.{min(given)} is unknown: leave it out", code="unknown_parameter")
    if form is None or not isinstance(form, dict):
        if form is not None:
            raise fields.wrong("text.format", form, "give an object with a type")
        return None
    if form.get("type") != "json_schema":
        return form
    return {"type": "json_schema", "json_schema": {k: v for k, v in form.items() if k != "type"}}


def _read_tool(tool: Any, index: int) -> dict[str, Any]:
    """A function as chat has it: one level deeper."""
    kind = tool.get("type") if isinstance(tool, dict) else type(tool).__name__
    if kind != "function":
        raise BadRequest(f"tools[{index}].type={str(kind)[:40]!r}: functions alone are offered")
    return {"type": "function", "function": {k: v for k, v in tool.items() if k != "type"}}


def _read_choice(fields: Values) -> Any:
    choice = fields.get("tool_choice")
    if not isinstance(choice, dict):
        return choice
    if choice.get("type") != "function":
        fix = 'give "none", "auto", "required" or {"type": "function", "name": ...}'
        raise fields.wrong("tool_choice", choice, fix)
    return {"type": "function", "function": {"name": choice.get("name")}}


def _read_effort(fields: Values) -> Any:
    """`reasoning.effort`, which goes to the chat template; a summary is not offered."""
    given = fields.get("reasoning", {})
    for name, value in given.items():
        if name != "effort" and value is not None:
            raise BadRequest(
                f"reasoning.{name}={str(value)[:40]!r}: this server does not offer it: leave it out"
            )
    return given.get("effort")


def read_items(fields: Values) -> list[dict[str, Any]]:
    """The conversation as messages of a chat, the instructions as its first one."""
    given: Any = fields.get("input", [])
    items = [{"role": "user", "content": given}] if isinstance(given, str) else given
    messages: list[dict[str, Any]] = []
    if instructions := fields.get("instructions"):
        messages.append({"role": "system", "content": instructions})
    for index, item in enumerate(items):
        _add(messages, item, f"input[{index}]")
    return messages


def _add(messages: list[dict[str, Any]], item: Any, where: str) -> None:
    """Adds an item to the messages: calls and thoughts belong to one message of the model."""
    kind = item.get("type", "message") if isinstance(item, dict) else type(item).__name__
    if kind == "message":
        role = item.get("role")
        if not isinstance(role, str):
            raise BadRequest(f'{where}: give an object with a "role" and "content"')
        text = _text(item.get("content"), f"{where}.content")
        if role == "assistant":
            _answer(messages, begun=True)["content"] += text
        else:
            _say(messages, "system" if role == "developer" else role, text)
    elif kind == "function_call":
        function = {name: item.get(name) for name in ("name", "arguments")}
        if not all(isinstance(value, str) for value in function.values()):
            raise BadRequest(f"{where}: give a function_call its name and arguments, as texts")
        call = {"id": item.get("call_id"), "type": "function", "function": function}
        _answer(messages, begun=True).setdefault("tool_calls", []).append(call)
    elif kind == "function_call_output":
        text = _text(item.get("output"), f"{where}.output")
        messages.append({"role": "tool", "tool_call_id": item.get("call_id"), "content": text})
    elif kind == "reasoning":
        parts = item.get("content") or item.get("summary") or []
        if thought := _text(parts, f"{where}.content"):
            _answer(messages, begun=False)["reasoning_content"] = thought
    else:
        raise BadRequest(f"{where}.type={str(kind)[:40]!r}: give items of type {ITEMS}")


def _answer(messages: list[dict[str, Any]], *, begun: bool) -> dict[str, Any]:
    """The model's message that an item belongs to: the last one where it is `begun`."""
    if not (begun and messages and messages[-1]["role"] == "assistant"):
        messages.append({"role": "assistant", "content": ""})
    return messages[-1]


def _say(messages: list[dict[str, Any]], role: str, text: str) -> None:
    """A message of another's. Instructions are one message: most templates take no second."""
    if role == "system" and messages and messages[-1]["role"] == "system":
        messages[-1]["content"] += "\n\n" + text
    else:
        messages.append({"role": role, "content": text})


def _text(content: Any, where: str) -> str:
    """A text, or the texts of parts."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise BadRequest(f"{where}: give a text or a list of text parts")
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else type(part).__name__
        if kind == "refusal" and isinstance(part.get("refusal"), str):
            continue
        if kind not in TEXT_PARTS or not isinstance(part.get("text"), str):
            raise BadRequest(
                f"{where} holds a part of type {str(kind)[:40]!r}: only text is served"
            )
    return "".join(part.get("text") or part.get("refusal") or "" for part in content)
