"""JSON schemas of the bodies that the server reads and writes, for its OpenAPI document."""

from __future__ import annotations

from typing import Any

from sm_serve.engines.protocol import ADAPTER, Task
from sm_serve.schemas.constraints import MAX_CHOICES as MAX_CHOICE_TEXTS
from sm_serve.schemas.generation import MAX_SEQUENCES
from sm_serve.schemas.openai import MAX_CHOICES, MAX_VARIABLES, TEMPLATE_OWN
from sm_serve.schemas.parameters import (
    MAX_BIASES,
    MAX_SEED,
    MAX_STOP_LENGTH,
    MAX_STOPS,
    MAX_TOP_LOGPROBS,
)
from sm_serve.schemas.tools import MAX_TOOLS, NAME

Schema = dict[str, Any]
TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "number"}
COUNT: Schema = {"type": "integer", "minimum": 0}


def closed(properties: Schema, *required: str) -> Schema:
    """An object with these fields and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def items(schema: Schema, **bounds: int) -> Schema:
    """A list."""
    return {"type": "array", "items": schema, **bounds}


def optional(schema: Schema) -> Schema:
    """The same or null, which stands for absent."""
    return {"anyOf": [schema, {"type": "null"}]}


def number(low: float, high: float) -> Schema:
    """A number within bounds, or null."""
    return optional({"type": "number", "minimum": low, "maximum": high})


def integer(low: int, high: int) -> Schema:
    """A whole number within bounds, or null."""
    return optional({"type": "integer", "minimum": low, "maximum": high})


FLAG = optional({"type": "boolean"})
STOP_TEXT: Schema = {"type": "string", "minLength": 1, "maxLength": MAX_STOP_LENGTH}
STOP = optional({"anyOf": [STOP_TEXT, items(STOP_TEXT, maxItems=MAX_STOPS)]})
LOGIT_BIAS = optional(
    {
        "type": "object",
        "propertyNames": {"pattern": "^[0-9]+$"},
        "additionalProperties": {"type": "number", "minimum": -100, "maximum": 100},
        "maxProperties": MAX_BIASES,
    }
)
JSON_SCHEMA: Schema = {"type": "object", "description": "a JSON schema"}
MESSAGE: Schema = {
    "type": "object",
    "properties": {
        "role": TEXT,
        "content": {
            "anyOf": [
                TEXT,
                {"type": "null"},
                items({"type": "object", "properties": {"text": TEXT}, "required": ["text"]}),
            ]
        },
    },
    "required": ["role"],
}
PENALTIES: Schema = {
    "repetition_penalty": number(0.01, 10),
    "frequency_penalty": number(-2, 2),
    "presence_penalty": number(-2, 2),
    "logit_bias": LOGIT_BIAS,
    "min_p": number(0, 1),
    "temperature": number(0, 100),
    "top_p": number(1e-6, 1),
}
GENERATION = closed(
    {
        **PENALTIES,
        "max_new_tokens": integer(1, 1_000_000),
        "min_new_tokens": integer(0, 1_000_000),
        "do_sample": FLAG,
        "top_k": integer(0, 1_000_000),
        "seed": integer(0, MAX_SEED),
        "stop": STOP,
        "stop_sequences": STOP,
        "ignore_eos_token": FLAG,
        "return_full_text": FLAG,
        "details": FLAG,
        "decoder_input_details": FLAG,
        "top_n_tokens": integer(0, MAX_TOP_LOGPROBS),
        ADAPTER: optional(TEXT),
        "num_return_sequences": integer(1, MAX_SEQUENCES),
        "truncate": integer(1, 1_000_000),
        "grammar": optional(
            {
                "type": "object",
                "properties": {
                    "type": {"enum": ["json", "json_object", "regex"]},
                    "value": {"anyOf": [JSON_SCHEMA, {"type": "string", "minLength": 1}]},
                },
                "required": ["type", "value"],
            }
        ),
    }
)
RESPONSE_FORMAT: Schema = {
    "anyOf": [
        {"type": "null"},
        {
            "type": "object",
            "properties": {"type": {"enum": ["text", "json_object"]}},
            "required": ["type"],
        },
        {
            "type": "object",
            "properties": {
                "type": {"const": "json_schema"},
                "json_schema": {
                    "type": "object",
                    "properties": {"name": TEXT, "schema": JSON_SCHEMA},
                    "required": ["schema"],
                },
            },
            "required": ["type", "json_schema"],
        },
    ]
}
CHOICE_TEXTS = items({"type": "string", "minLength": 1}, minItems=1, maxItems=MAX_CHOICE_TEXTS)
OPENAI_COMMON: Schema = {
    **PENALTIES,
    "top_p": number(0, 1),
    "model": optional(TEXT),
    "n": integer(1, MAX_CHOICES),
    "stream": FLAG,
    "stream_options": optional({"type": "object"}),
    "max_tokens": integer(1, 1_000_000),
    "min_tokens": integer(0, 1_000_000),
    "top_k": integer(-1, 1_000_000),
    "seed": integer(-MAX_SEED, MAX_SEED),
    "stop": STOP,
    "ignore_eos": FLAG,
    "response_format": RESPONSE_FORMAT,
    "structured_outputs": optional({"type": "object"}),
    "guided_json": optional(JSON_SCHEMA),
    "guided_regex": optional({"type": "string", "minLength": 1}),
    "guided_choice": optional(CHOICE_TEXTS),
    "guided_grammar": optional({"type": "string", "minLength": 1}),
    "user": {},
    "metadata": {},
}
TOKEN_IDS = items(COUNT, minItems=1)
PROMPT: Schema = {"anyOf": [TEXT, TOKEN_IDS, items({"anyOf": [TEXT, TOKEN_IDS]}, minItems=1)]}
TOOL_NAME: Schema = {"type": "string", "pattern": f"^{NAME.pattern}$"}
TOOL: Schema = {
    "type": "object",
    "properties": {
        "type": {"const": "function"},
        "function": {
            "type": "object",
            "properties": {"name": TOOL_NAME, "parameters": optional(JSON_SCHEMA)},
            "required": ["name"],
        },
    },
    "required": ["type", "function"],
}
NAMED_TOOL: Schema = {
    "type": "object",
    "properties": {
        "type": {"const": "function"},
        "function": {"type": "object", "properties": {"name": TEXT}, "required": ["name"]},
    },
    "required": ["type", "function"],
}
VARIABLES: Schema = {
    "type": "object",
    "propertyNames": {"not": {"enum": sorted(TEMPLATE_OWN)}},
    "maxProperties": MAX_VARIABLES,
}
CHAT_REQUEST = closed(
    {
        **OPENAI_COMMON,
        "messages": items(MESSAGE, minItems=1),
        "max_completion_tokens": integer(1, 1_000_000),
        "logprobs": FLAG,
        "top_logprobs": integer(0, MAX_TOP_LOGPROBS),
        "tools": optional(items(TOOL, maxItems=MAX_TOOLS)),
        "tool_choice": {"anyOf": [{"enum": [None, "auto", "none", "required"]}, NAMED_TOOL]},
        "parallel_tool_calls": FLAG,
        "continue_final_message": FLAG,
        "reasoning_effort": optional(TEXT),
        "chat_template_kwargs": optional(VARIABLES),
    },
    "messages",
)
COMPLETION_REQUEST = closed(
    {
        **OPENAI_COMMON,
        "prompt": PROMPT,
        "max_tokens": integer(0, 1_000_000),
        "logprobs": integer(0, MAX_TOP_LOGPROBS),
        "echo": FLAG,
    },
    "prompt",
)
EMBEDDING_TEXT: Schema = {"type": "string", "minLength": 1}
EMBEDDING_REQUEST = closed(
    {
        "input": {
            "anyOf": [
                EMBEDDING_TEXT,
                items(EMBEDDING_TEXT, minItems=1),
                TOKEN_IDS,
                items(TOKEN_IDS, minItems=1),
            ]
        },
        "model": optional(TEXT),
        "encoding_format": {"enum": [None, "float", "base64"]},
        "dimensions": integer(1, 100_000),
        "user": {},
    },
    "input",
)
ADAPTER_REQUEST = closed(
    {
        "name": {"type": "string", "minLength": 1, "maxLength": 256},
        "src": {"type": "string", "minLength": 1},
        "preload": FLAG,
        "pin": FLAG,
    },
    "name",
    "src",
)
USAGE: Schema = {
    "type": "object",
    "properties": {"prompt_tokens": COUNT, "completion_tokens": COUNT, "total_tokens": COUNT},
    "required": ["prompt_tokens", "total_tokens"],
}
LABEL = closed({"label": TEXT, "score": NUMBER}, "label", "score")
RESULTS: dict[Task, Schema] = {
    Task.TEXT_CLASSIFICATION: {"anyOf": [LABEL, items(LABEL)]},
    Task.TOKEN_CLASSIFICATION: items({"type": "object"}),
    Task.QUESTION_ANSWERING: {"anyOf": [{"type": "object"}, items({"type": "object"})]},
    Task.EMBEDDING: items(NUMBER),
    Task.TEXT_GENERATION: {
        "type": "object",
        "properties": {"generated_text": TEXT, "details": {"type": "object"}},
        "required": ["generated_text"],
    },
}
ERROR = closed(
    {"error": closed({"code": TEXT, "message": TEXT, "type": TEXT}, "code", "message", "type")},
    "error",
)


def invocation_request(task: Task) -> Schema:
    """What POST /invocations takes as JSON in Hugging Face's format."""
    one: Schema = {"anyOf": [TEXT, {"type": "object"}]}
    parameters: Schema = {"type": "object", "properties": {ADAPTER: optional(TEXT)}}
    if task is Task.TEXT_GENERATION:
        one = {"anyOf": [TEXT, items(MESSAGE, minItems=1)]}
        parameters = GENERATION
    fields = {
        "inputs": {"anyOf": [one, items(one, minItems=1)]},
        "parameters": optional(parameters),
        "stream": {"type": "boolean"},
        "options": {},
    }
    if task is not Task.TEXT_GENERATION:
        del fields["stream"]
    # A bare text or list, and an object without `inputs` where a task takes objects.
    bare: Schema = {"anyOf": [one, items(one, minItems=1)]}
    return {"anyOf": [closed(fields, "inputs"), bare]}


def completion_answer(kind: str, choice: Schema) -> Schema:
    """A whole answer in OpenAI's format."""
    base = {
        "index": COUNT,
        "finish_reason": {"enum": ["stop", "length", "tool_calls"]},
        "logprobs": {},
    }
    return {
        "type": "object",
        "properties": {
            "id": TEXT,
            "object": {"const": kind},
            "created": COUNT,
            "model": TEXT,
            "choices": items({"type": "object", "properties": {**base, **choice}}, minItems=1),
            "usage": USAGE,
        },
        "required": ["id", "object", "created", "model", "choices", "usage"],
    }
