"""OpenAI's wire format: chat completions, completions, embeddings, models.

Fields that an engine cannot honour are refused by name instead of being ignored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from sm_serve.errors import BadRequest
from sm_serve.protocol import UNTOLD, GenerationRequest, Sampling
from sm_serve.schemas import images
from sm_serve.schemas.field_table import CHAT as CHAT_FIELDS
from sm_serve.schemas.field_table import COMPLETIONS as COMPLETION_FIELDS
from sm_serve.schemas.field_table import MAX_VARIABLES, TEMPLATE_OWN
from sm_serve.schemas.fields import Values
from sm_serve.schemas.parameters import read_penalties
from sm_serve.schemas.tools import (
    PLAIN,
    ToolFormat,
    ToolUse,
    decode_arguments,
    find_format,
    force,
    read_tools,
)

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
EMBEDDINGS = "/v1/embeddings"
RESPONSES = "/v1/responses"
MODELS = "/v1/models"
ROUTES = (CHAT, COMPLETIONS, RESPONSES, EMBEDDINGS)
DEFAULT_COMPLETION_TOKENS = 16
"""What OpenAI's completions API takes for an absent max_tokens."""
LEAST_TOP_P = 1e-6
"""Less of the probability than any token has: the best one alone is left, as top_p 0 asks."""
DONE = b"data: [DONE]\n\n"


class Usage(Enum):
    """When a stream tells how many tokens it took."""

    NEVER = "never"
    LAST = "last"
    EACH = "each"


@dataclass(frozen=True, slots=True)
class Job:
    """A parsed request: prompts, each answered `n` times, and how to write the answer."""

    route: str
    model: str
    requests: list[GenerationRequest]
    n: int = 1
    stream: bool = False
    usage: Usage = Usage.NEVER
    tools: ToolUse | None = None
    tool_format: ToolFormat | None = None
    thoughts: bool = True
    """Whether the client wants to know what the model thought."""

    @property
    def chat(self) -> bool:
        """Whether answers are messages and not bare texts."""
        return self.route == CHAT

    def name(self, index: int) -> str:
        """Where the client finds the prompt of an answer, for messages."""
        if self.chat:
            return "messages"
        return f"prompt[{index // self.n}]" if len(self.requests) > 1 else "prompt"

    def calling(self, chat_template: str) -> Job:
        """With tool calls as the model of this template writes them."""
        if self.chat and chat_template:
            check_variables(self.requests[0].template_variables, chat_template)
        if self.tools is None:
            return self
        form = find_format(chat_template)
        if not self.tools.forced:
            if chat_template and "tools" not in chat_template:
                raise BadRequest(
                    "tools: the model's chat template shows it no tools: leave them out, or force a"
                    ' call by tool_choice "required"'
                )
            return replace(self, tool_format=form)
        form = form or PLAIN
        requests = [force(request, self.tools, form) for request in self.requests]
        return replace(self, tool_format=form, requests=requests)


def route_of(body: Any) -> str | None:
    """The route that a body sent to /invocations is meant for; None for our own format."""
    if not isinstance(body, dict) or "inputs" in body:
        return None
    if "messages" in body:
        return CHAT
    if "prompt" in body:
        return COMPLETIONS
    if "input" in body:
        return EMBEDDINGS
    return None


def parse_generation(route: str, body: Any, defaults: Sampling = UNTOLD) -> Job:
    """A chat or completions request, whose sampling is `defaults` where it says nothing.

    BadRequest names the field, the value and the fix.
    """
    chat = route == CHAT
    fields = Values(CHAT_FIELDS if chat else COMPLETION_FIELDS, require_object(body))
    usage = _read_usage(fields)
    if chat:
        prompts: list[Any] = [read_messages(fields.get("messages"))]
        tools, variables = read_tools(fields), read_variables(fields)
        logprobs = _chat_logprobs(fields)
    else:
        prompts = read_prompts(fields.get("prompt"))
        tools, variables = None, {}
        logprobs = fields.get("logprobs")
    echo = fields.flag("echo")
    limit = _read_limit(fields, chat=chat)
    if limit == 0 and not echo:
        raise fields.wrong("max_tokens", 0, "ask for a token, or set echo to true")
    sampling = replace(
        _read_sampling(fields, limit, defaults),
        logprobs=logprobs,
        prompt_logprobs=logprobs if echo else None,
    )
    requests = [
        GenerationRequest(
            prompt,
            sampling,
            fields.flag("stream"),
            tools=tools.tools if tools else None,
            continue_final_message=fields.flag("continue_final_message"),
            template_variables=variables,
            echo=echo,
            truncate=fields.get("truncate_prompt_tokens"),
        )
        for prompt in prompts
    ]
    return Job(
        route,
        fields.get("model", ""),
        requests,
        fields.get("n", 1),
        fields.flag("stream"),
        usage,
        tools,
        thoughts=fields.get("include_reasoning", True),
    )


def _read_usage(fields: Values) -> Usage:
    """When a stream tells its usage."""
    options = fields.get("stream_options", {})
    for name, value in options.items():
        known = name in ("include_usage", "continuous_usage_stats", "include_obfuscation")
        if not known or not isinstance(value, bool | None):
            raise BadRequest(f"stream_options.{name} is unknown, or neither true nor false")
    if options.get("include_obfuscation"):
        raise BadRequest("stream_options.include_obfuscation=True: nothing is obfuscated here")
    if options.get("continuous_usage_stats"):
        return Usage.EACH
    return Usage.LAST if options.get("include_usage") else Usage.NEVER


def _read_limit(fields: Values, *, chat: bool) -> int | None:
    """Most tokens of the answer, by either name."""
    newer, older = fields.get("max_completion_tokens"), fields.get("max_tokens")
    if newer is not None and older not in (None, newer):
        raise fields.wrong("max_tokens", older, f"max_completion_tokens={newer} says otherwise")
    limit: int | None = older if newer is None else newer
    return DEFAULT_COMPLETION_TOKENS if limit is None and not chat else limit


def _chat_logprobs(fields: Values) -> int | None:
    top = fields.get("top_logprobs", 0)
    if top and not fields.flag("logprobs"):
        raise fields.wrong("top_logprobs", top, "set logprobs to true as well")
    return top if fields.flag("logprobs") else None


def _read_sampling(fields: Values, limit: int | None, defaults: Sampling) -> Sampling:
    return Sampling(
        max_new_tokens=limit,
        temperature=fields.number("temperature", defaults.temperature),
        top_p=max(fields.number("top_p", defaults.top_p), LEAST_TOP_P),
        top_k=max(fields.get("top_k", defaults.top_k), 0),
        min_p=fields.number("min_p", defaults.min_p),
        min_new_tokens=fields.get("min_tokens", 0),
        stop=fields.texts("stop"),
        ignore_eos=fields.flag("ignore_eos"),
        **read_penalties(fields, defaults),
    )


def read_variables(fields: Values) -> dict[str, Any]:
    """What the chat template is to know: `chat_template_kwargs` as in vLLM, `reasoning_effort`."""
    variables = dict(fields.get("chat_template_kwargs", {}))
    if len(variables) > MAX_VARIABLES:
        fix = f"give at most {MAX_VARIABLES}"
        raise fields.wrong("chat_template_kwargs", variables, fix)
    for name in sorted(TEMPLATE_OWN & set(variables)):
        raise BadRequest(f"chat_template_kwargs.{name} is not for clients to set: leave it out")
    if "reasoning_effort" in fields:
        variables.setdefault("reasoning_effort", fields["reasoning_effort"])
    return variables


def check_variables(variables: Mapping[str, Any], chat_template: str) -> None:
    """Refuses what the template does not read, unless it is off. Raises BadRequest."""
    for name, value in variables.items():
        if name not in chat_template and value not in (None, False, "", "none"):
            shown = name if name == "reasoning_effort" else f"chat_template_kwargs.{name}"
            raise BadRequest(
                f"{shown}={str(value)[:40]!r}: the model's chat template does not read it: leave it"
                " out",
                code="invalid_parameter",
            )


def require_object(body: Any) -> Mapping[str, Any]:
    """The body as an object."""
    if not isinstance(body, dict):
        raise BadRequest(f"the body must be a JSON object, not a {type(body).__name__}")
    return body


def read_messages(value: Any) -> list[dict[str, Any]]:
    """Messages; content without an image becomes a text, as chat templates expect it."""
    if not isinstance(value, list) or not value:
        raise BadRequest('messages: give a list of {"role": ..., "content": ...}')
    messages = []
    for index, message in enumerate(value):
        where = f"messages[{index}]"
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise BadRequest(f'{where} must be an object with a "role"')
        content = _content(message.get("content"), where)
        messages.append(decode_arguments({**message, "content": content}, where))
    return messages


def _content(content: Any, where: str) -> str | list[dict[str, Any]]:
    """A text; with images among its parts a list of both."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise BadRequest(f"{where}.content must be a text or a list of text parts")
    parts = [_part(part, f"{where}.content", number) for number, part in enumerate(content)]
    if any(part["type"] == images.KIND for part in parts):
        return parts
    return "".join(part["text"] for part in parts)


def _part(part: Any, where: str, number: int) -> dict[str, Any]:
    kind = part.get("type") if isinstance(part, dict) else type(part).__name__
    if isinstance(part, dict) and kind == images.KIND:
        return images.read_image(part, f"{where}[{number}]")
    text_kinds = (None, "text", "input_text", "output_text")
    right = isinstance(part, dict) and kind in text_kinds
    if not right or not isinstance(part.get("text"), str):
        raise BadRequest(
            f"{where} holds a part of type {kind!r}: only text is served, and images as"
            f" {images.KIND} by models that take them"
        )
    return {"type": "text", "text": part["text"]}


def read_prompts(value: Any) -> list[Any]:
    """A text, token ids, or a list of either."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and value:
        if all(_is_token(item) for item in value):
            return [value]
        if all(
            isinstance(item, str)
            or (isinstance(item, list) and item and all(_is_token(token) for token in item))
            for item in value
        ):
            return value
    raise BadRequest("prompt: give a text, a list of texts, or token ids")


def _is_token(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def write_models(names: Sequence[str], about: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The answer of the models route: the model first, adapters with it as their parent.

    `about` says more of the model: where it is from (`root`, `revision`).
    """
    data: list[dict[str, Any]] = [
        {"id": name, "object": "model", "created": 0, "owned_by": "sm-serve"} for name in names
    ]
    data[0] |= about or {}
    for entry in data[1:]:
        entry["parent"] = names[0]
    return {"object": "list", "data": data}
