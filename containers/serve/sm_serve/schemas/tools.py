"""Tools in OpenAI's chat: reading `tools` and `tool_choice`, and holding an answer to a call."""

from __future__ import annotations

import contextlib
import json
import re
from dataclasses import dataclass, replace
from typing import Any

from sm_serve.errors import BadRequest
from sm_serve.protocol import Constraint, ConstraintKind, GenerationRequest
from sm_serve.schemas.field_table import MAX_TOOLS, TOOL_NAME
from sm_serve.schemas.fields import Values
from sm_serve.schemas.harmony import CHANNEL, MESSAGE, knows_channels, names_channels

NAME = re.compile(TOOL_NAME)


@dataclass(frozen=True, slots=True)
class ToolFormat:
    """How a family of models writes a call.

    A call is a JSON object of the function's name and its arguments, which are called `key`.
    `opening` and `closing` enclose it; without an opening the call is the whole answer. `prompt` is
    what a forced call is made to follow.
    """

    key: str = "arguments"
    opening: str = ""
    closing: str = ""
    prompt: str = ""


HERMES = ToolFormat(opening="<tool_call>", closing="</tool_call>", prompt="<tool_call>\n")
LLAMA = ToolFormat(key="parameters")
MISTRAL = ToolFormat(prompt="[TOOL_CALLS] [")
HARMONY = ToolFormat(prompt=f"{CHANNEL}commentary json{MESSAGE}")
"""Of forced calls. Those that a model writes by itself are found by their channel."""
PLAIN = ToolFormat()
"""For forced calls of models whose own format is not known."""


def find_format(chat_template: str) -> ToolFormat | None:
    """The format that a chat template teaches its model; None where that is not known."""
    if "tools" not in chat_template or "<function=" in chat_template:
        return None
    if knows_channels(chat_template):
        return HARMONY if names_channels(chat_template) else None
    if HERMES.opening in chat_template:
        return HERMES
    if "[TOOL_CALLS]" in chat_template:
        return MISTRAL
    if '"parameters"' in chat_template and "python" in chat_template:
        return LLAMA
    return None


@dataclass(frozen=True, slots=True)
class ToolUse:
    """The functions that a model may call, and those of which it must call one."""

    tools: list[dict[str, Any]]
    forced: tuple[str, ...] = ()
    parallel: bool = True

    @property
    def names(self) -> frozenset[str]:
        """Of all functions."""
        return frozenset(tool["function"]["name"] for tool in self.tools)


def read_tools(fields: Values) -> ToolUse | None:
    """`tools`, `tool_choice` and `parallel_tool_calls`; None where nothing may be called."""
    tools, choice = fields.get("tools"), fields.get("tool_choice")
    parallel = fields.get("parallel_tool_calls")
    if not tools:
        if choice not in (None, "none", "auto"):
            raise fields.wrong("tool_choice", choice, "give the tools to choose from as well")
        if parallel is False:
            raise fields.wrong("parallel_tool_calls", False, "give the tools as well")
        return None
    if len(tools) > MAX_TOOLS:
        raise fields.wrong("tools", tools, f"give a list of at most {MAX_TOOLS} tools")
    names = [_check_tool(tool, f"tools[{index}]") for index, tool in enumerate(tools)]
    if len(set(names)) < len(names):
        raise BadRequest("tools: two functions have the same name")
    if choice == "none":
        return None
    forced: tuple[str, ...] = ()
    if choice == "required":
        forced = tuple(names)
    elif choice not in (None, "auto"):
        forced = (_named(fields, choice, names),)
    return ToolUse(tools, forced, parallel is not False)


def _check_tool(tool: Any, where: str) -> str:
    function = tool.get("function") if isinstance(tool, dict) else None
    if not isinstance(function, dict) or tool.get("type", "function") != "function":
        raise BadRequest(f'{where}: give {{"type": "function", "function": {{"name": ...}}}}')
    name = function.get("name")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise BadRequest(f"{where}.function.name: give letters, digits, - and _, at most 128")
    if not isinstance(function.get("parameters"), dict | None):
        raise BadRequest(f"{where}.function.parameters: give a JSON schema as an object")
    return name


def _named(fields: Values, choice: Any, names: list[str]) -> str:
    function = choice.get("function") if isinstance(choice, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str) or choice.get("type", "function") != "function":
        fix = 'give "none", "auto", "required" or {"type": "function", "function": {"name": ...}}'
        raise fields.wrong("tool_choice", choice, fix)
    if name not in names:
        raise BadRequest(f"tool_choice names {name[:100]!r}: tools has {', '.join(names)[:300]}")
    return name


def force(request: GenerationRequest, use: ToolUse, form: ToolFormat) -> GenerationRequest:
    """The request held to a call of one of the forced functions."""
    sampling = request.sampling
    if sampling.constraint is not None:
        raise BadRequest(
            f"tool_choice and {sampling.constraint.field} cannot hold at once: leave one out"
        )
    if request.continue_final_message:
        raise BadRequest("tool_choice forces a call: leave continue_final_message out")
    schema = json.dumps(call_schema(use, form.key))
    constraint = Constraint(ConstraintKind.JSON_SCHEMA, schema, "tools")
    return replace(
        request, sampling=replace(sampling, constraint=constraint), answer_prefix=form.prompt
    )


def call_schema(use: ToolUse, key: str) -> dict[str, Any]:
    """A JSON schema of a call of any forced function."""
    definitions: dict[str, Any] = {}
    calls = []
    for index, tool in enumerate(use.tools):
        function = tool["function"]
        if function["name"] not in use.forced:
            continue
        # References lead from the root of a schema: each tool's own root moves to a place of its.
        place = f"tool{index}"
        arguments = {"type": "object", "properties": {}, **(function.get("parameters") or {})}
        definitions[place] = _move(_close(arguments), f"#/$defs/{place}")
        calls.append(
            {
                "type": "object",
                "properties": {
                    "name": {"const": function["name"]},
                    key: {"$ref": f"#/$defs/{place}"},
                },
                "required": ["name", key],
                "additionalProperties": False,
            }
        )
    return {"$defs": definitions, **(calls[0] if len(calls) == 1 else {"anyOf": calls})}


def _close(schema: Any) -> Any:
    """Without arguments that were not declared: an open object could go on with them for ever."""
    if not isinstance(schema, dict):
        return schema
    closed = dict(schema)
    for name in ("properties", "$defs", "definitions"):
        if isinstance(schema.get(name), dict):
            closed[name] = {inner: _close(value) for inner, value in schema[name].items()}
    if "items" in schema:
        closed["items"] = _close(schema["items"])
    mixed = {"allOf", "anyOf", "oneOf", "additionalProperties", "patternProperties"} & set(schema)
    if isinstance(schema.get("properties"), dict) and not mixed:
        closed["additionalProperties"] = False
    return closed


def _move(value: Any, root: str) -> Any:
    """The schema with its references led from another root."""
    if isinstance(value, list):
        return [_move(item, root) for item in value]
    if not isinstance(value, dict):
        return value
    moved = {name: _move(inner, root) for name, inner in value.items()}
    reference = value.get("$ref")
    if isinstance(reference, str) and reference.startswith("#"):
        moved["$ref"] = root + reference[1:]
    return moved


def decode_arguments(message: dict[str, Any], where: str) -> dict[str, Any]:
    """A past message whose calls have their arguments as objects, as chat templates write them."""
    calls = message.get("tool_calls")
    if not calls:
        return message
    if not isinstance(calls, list) or not all(
        isinstance(call, dict) and isinstance(call.get("function"), dict) for call in calls
    ):
        raise BadRequest(f'{where}.tool_calls: give a list of {{"function": {{...}}}}')
    decoded = []
    for call in calls:
        function = dict(call["function"])
        arguments = function.get("arguments")
        if isinstance(arguments, str):
            # What is no JSON was a model's own mistake: it is shown as it was.
            with contextlib.suppress(ValueError, RecursionError):
                function["arguments"] = json.loads(arguments or "{}")
        decoded.append({**call, "function": function})
    return {**message, "tool_calls": decoded}
