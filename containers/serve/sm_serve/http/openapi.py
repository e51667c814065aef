"""The OpenAPI document of a running server: its own routes for its own task, no more.

Bodies are described by the table that they are read with (`field_table.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib import metadata
from typing import Any

from sm_serve.config import Settings
from sm_serve.http import client_routes
from sm_serve.protocol import Task
from sm_serve.schemas import encoder_fields, media, openai
from sm_serve.schemas import field_table as table
from sm_serve.schemas.fields import Schema, closed, optional
from sm_serve.tasks import fields_of

PATH = "/openapi.json"
HEADERS = {
    "X-Amzn-SageMaker-Adapter-Identifier": "the LoRA adapter to answer with",
    "X-Amzn-SageMaker-Custom-Attributes": "route=/v1/… sends the body to that route",
}
FAILURES = {
    400: "the request is wrong; the message names the field, the value and the fix",
    404: "no such model or adapter",
    406: "no type in Accept is one that the server writes",
    409: "the name is taken",
    413: "the body is over the payload limit",
    415: "the Content-Type is not one that the server reads",
    429: "too many requests are in flight",
    500: "the model failed on this request",
    503: "loading, stopping or broken",
    504: "the answer would have come too late",
    507: "no room for another model or adapter",
}
ANSWERING = (400, 404, 406, 413, 415, 429, 500, 503, 504)
MANAGING = (400, 404, 409, 413, 429, 500, 503, 504, 507)
LOOKING = (404, 429, 500, 503)
OBJECT: Schema = {"type": "object"}
ERROR = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": dict.fromkeys(("code", "message", "type"), table.TEXT),
            "required": ["code", "message", "type"],
            "additionalProperties": False,
        }
    },
    "required": ["error"],
    "additionalProperties": False,
}


@dataclass(frozen=True)
class Operation:
    """One method of one path; `body` and `answer` map media types to schemas."""

    path: str
    method: str
    summary: str
    answer: Schema
    failures: tuple[int, ...] = ()
    body: Schema | None = None
    headers: tuple[str, ...] = ()


def build_document(task: Task, settings: Settings) -> Schema:
    """The document; a script's own bodies are described as any bytes."""
    operations = list(WATCHING)
    if settings.multi_model:
        operations += MEMBERS
    else:
        operations.append(invocations(task))
    if task is not Task.CUSTOM and not settings.multi_model:
        operations += openai_operations(task) + client_operations(task) + ADAPTERS
    paths: Schema = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method] = describe(operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "sm-serve", "version": metadata.version("sm-serve")},
        "paths": paths,
        "components": {"schemas": {"Error": ERROR}},
    }


def describe(operation: Operation) -> Schema:
    """An operation in the document's words."""
    responses: Schema = {"200": {"description": "answered", "content": operation.answer}}
    for status in operation.failures:
        content = in_json({"$ref": "#/components/schemas/Error"})
        responses[str(status)] = {"description": FAILURES[status], "content": content}
    if operation.path in ("/ping", "/health"):
        responses["503"] = {"description": FAILURES[503], "content": {media.JSON: {}}}
    parameters: list[Schema] = [
        {"name": name, "in": "header", "schema": table.TEXT, "description": HEADERS[name]}
        for name in operation.headers
    ]
    if "{name}" in operation.path:
        parameters.append({"name": "name", "in": "path", "required": True, "schema": table.TEXT})
    described: Schema = {"summary": operation.summary, "responses": responses}
    if parameters:
        described["parameters"] = parameters
    if operation.body is not None:
        described["requestBody"] = {"required": True, "content": operation.body}
    return described


def in_json(schema: Schema) -> Schema:
    """A JSON body of this schema."""
    return {media.JSON: {"schema": schema}}


def holding(**properties: Schema) -> Schema:
    """An object that has all of these, in JSON."""
    return in_json({"type": "object", "properties": properties, "required": list(properties)})


def invocations(task: Task) -> Operation:
    """POST /invocations."""
    anything: Schema = {"*/*": {}}
    if task is Task.CUSTOM:
        return Operation(
            "/invocations", "post", "The script's answer", anything, ANSWERING, anything
        )
    routes = openai_operations(task)
    bodies = [call_schema(task)]
    bodies += [route.body[media.JSON]["schema"] for route in routes if route.body is not None]
    body = in_json({"anyOf": bodies}) | {media.JSON_LINES: {}, media.CSV: {}, media.TEXT: {}}
    answer = in_json({"type": ["array", "object"]})
    answer |= {media.JSON_LINES: {}, media.CSV: {}, media.EVENT_STREAM: {}}
    return Operation(
        "/invocations", "post", f"{task}", answer, ANSWERING, body, headers=tuple(HEADERS)
    )


def call_schema(task: Task) -> Schema:
    """Hugging Face's format: `inputs` with parameters, or an input alone."""
    generates = task is Task.TEXT_GENERATION
    one: Schema = {"type": ["string", "object"]}
    if generates:
        one = {"anyOf": [table.TEXT, table.array(table.MESSAGE, minItems=1)]}
    elif task is Task.EMBEDDING:
        one = {"anyOf": [one, closed(encoder_fields.SIMILARITY)]}
    inputs = {"anyOf": [one, table.array(one, minItems=1)]}
    parameters = closed(fields_of(task))
    if task is Task.TEXT_CLASSIFICATION:
        parameters = {"anyOf": [parameters, closed(encoder_fields.ZERO_SHOT)]}
    whole = closed(table.CALL)
    whole["properties"] |= {
        "inputs": inputs,
        "parameters": optional(parameters),
        "options": optional(closed(table.OPTIONS)),
    }
    if not generates:
        whole["properties"]["stream"] = {"enum": [False, None]}
    return {"anyOf": [whole, inputs]}


def client_operations(task: Task) -> list[Operation]:
    """Other servers' paths that this task answers."""
    operations = []
    for post in client_routes.POSTS:
        if task not in post.tasks:
            continue
        if not post.bodies:
            operations.append(replace(invocations(task), path=post.path, summary=post.summary))
            continue
        bodies = [closed(fields) for fields in post.bodies]
        body = in_json(bodies[0] if len(bodies) == 1 else {"anyOf": bodies})
        answer: Schema = in_json({"type": post.answer} if post.answer else {})
        if post.answer is None:
            answer = {media.EVENT_STREAM: {}, media.JSON_LINES: {}}
        headers = tuple(HEADERS)[:1]
        operations.append(
            Operation(post.path, "post", post.summary, answer, ANSWERING, body, headers)
        )
    return operations


def openai_operations(task: Task) -> list[Operation]:
    """The /v1 routes that this task answers."""
    listed = holding(object={"const": "list"}, data=table.array(OBJECT))
    operations = [
        Operation(openai.MODELS, "get", "Models", listed, LOOKING),
        Operation(openai.MODELS + "/{name}", "get", "A model", in_json(OBJECT), LOOKING),
    ]
    bodies = {
        Task.EMBEDDING: ((openai.EMBEDDINGS, "list", encoder_fields.EMBEDDINGS),),
        Task.TEXT_GENERATION: (
            (openai.CHAT, "chat.completion", table.CHAT),
            (openai.COMPLETIONS, "text_completion", table.COMPLETIONS),
            (openai.RESPONSES, "response", table.RESPONSES),
        ),
    }
    for path, kind, fields in bodies.get(task, ()):
        answer = holding(object={"const": kind}, model=table.TEXT, usage=OBJECT)
        if task is Task.TEXT_GENERATION:
            answer[media.EVENT_STREAM] = {}
        body, headers = in_json(closed(fields)), tuple(HEADERS)[:1]
        operations.append(Operation(path, "post", "Answer", answer, ANSWERING, body, headers))
    return operations


COUNT: Schema = {"type": "integer", "minimum": 0}
WATCHING = (
    Operation("/ping", "get", "Health", {media.JSON: {}}),
    Operation("/health", "get", "Health, by the name that other servers have", {media.JSON: {}}),
    Operation("/version", "get", "The server's version", holding(version=table.TEXT)),
    Operation("/execution-parameters", "get", "Batch transform's parameters",
              holding(MaxConcurrentTransforms=COUNT, BatchStrategy={"const": "MULTI_RECORD"},
                      MaxPayloadInMB=COUNT)),
    Operation("/metrics", "get", "Prometheus metrics", {media.TEXT: {}}),
    Operation(PATH, "get", "This document", in_json(OBJECT)),
)  # fmt: skip
DONE = holding(message=table.TEXT, name=table.TEXT)
ADAPTERS = [
    Operation("/adapters", "get", "Loaded adapters", holding(adapters=table.array(table.TEXT)),
              (429, 500, 503)),
    Operation("/adapters", "post", "Load an adapter", DONE, MANAGING,
              in_json(closed(table.ADAPTER_LOADING))),
    Operation("/adapters/{name}", "delete", "Unload an adapter", DONE, LOOKING),
]  # fmt: skip
MEMBER = {"modelName": table.TEXT, "modelUrl": table.TEXT}
ANYTHING: Any = {"*/*": {}}
MEMBERS = [
    Operation("/models", "get", "Loaded models", holding(models=table.array(OBJECT)),
              (429, 500, 503)),
    Operation("/models", "post", "Load a model", holding(**MEMBER), MANAGING,
              holding(model_name=table.TEXT, url=table.TEXT)),
    Operation("/models/{name}", "get", "A model", holding(**MEMBER), LOOKING),
    Operation("/models/{name}", "delete", "Unload a model", in_json(OBJECT), LOOKING),
    Operation("/models/{name}/invoke", "post", "The model's answer", ANYTHING, ANSWERING, ANYTHING),
]  # fmt: skip
