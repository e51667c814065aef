"""The OpenAPI document of a running server: its own routes for its own task, no more."""

from __future__ import annotations

import functools
from importlib import metadata
from typing import Any

from sm_serve.config import Settings
from sm_serve.engines.protocol import Task
from sm_serve.schemas import media, openai
from sm_serve.schemas import openapi_types as types
from sm_serve.schemas.openapi_types import Schema

PATH = "/openapi.json"
ADAPTER_HEADER = {
    "name": "X-Amzn-SageMaker-Adapter-Identifier",
    "in": "header",
    "schema": {"type": "string"},
    "description": "the LoRA adapter to answer with",
}
ATTRIBUTES_HEADER = {
    "name": "X-Amzn-SageMaker-Custom-Attributes",
    "in": "header",
    "schema": {"type": "string", "maxLength": 1024},
    "description": "route=/v1/… sends the body to that route",
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


def build_document(task: Task, settings: Settings) -> Schema:
    """The document; a script's own bodies are described as any bytes."""
    paths: Schema = {
        "/ping": {"get": operation("Health", {"application/json": {}}, unhealthy=True)},
        "/execution-parameters": {
            "get": operation("Batch transform's parameters", json_body(EXECUTION_PARAMETERS))
        },
        "/metrics": {"get": operation("Prometheus metrics", {"text/plain": {}})},
        PATH: {"get": operation("This document", json_body({"type": "object"}))},
    }
    if settings.multi_model:
        paths |= multi_model_paths()
    else:
        paths["/invocations"] = {"post": invocations(task)}
    if task is not Task.CUSTOM and not settings.multi_model:
        paths |= openai_paths(task)
    return {
        "openapi": "3.1.0",
        "info": {"title": "sm-serve", "version": metadata.version("sm-serve")},
        "paths": paths,
        "components": {"schemas": {"Error": types.ERROR}},
    }


EXECUTION_PARAMETERS = types.closed(
    {
        "MaxConcurrentTransforms": types.COUNT,
        "BatchStrategy": {"const": "MULTI_RECORD"},
        "MaxPayloadInMB": types.COUNT,
    },
    "MaxConcurrentTransforms",
    "BatchStrategy",
    "MaxPayloadInMB",
)


def json_body(schema: Schema) -> Schema:
    """A JSON body of this schema."""
    return {media.JSON: {"schema": schema}}


def operation(
    summary: str,
    answer: Schema,
    *,
    failures: tuple[int, ...] = (),
    request: Schema | None = None,
    parameters: list[Schema] | None = None,
    unhealthy: bool = False,
) -> Schema:
    """One method of one path; `answer` and `request` map media types to schemas."""
    responses: Schema = {"200": {"description": "answered", "content": answer}}
    for status in failures:
        responses[str(status)] = {
            "description": FAILURES[status],
            "content": json_body({"$ref": "#/components/schemas/Error"}),
        }
    if unhealthy:
        responses["503"] = {"description": FAILURES[503], "content": {media.JSON: {}}}
    found: Schema = {"summary": summary, "responses": responses}
    if parameters:
        found["parameters"] = parameters
    if request is not None:
        found["requestBody"] = {"required": True, "content": request}
    return found


def invocations(task: Task) -> Schema:
    """POST /invocations."""
    if task is Task.CUSTOM:
        return operation(
            "The script's answer", {"*/*": {}}, failures=ANSWERING, request={"*/*": {}}
        )
    bodies: list[Schema] = [types.invocation_request(task)]
    # A lone question's answer stands alone.
    answers: list[Schema] = [types.items(types.RESULTS[task]), types.RESULTS[task]]
    if task is Task.TEXT_GENERATION:
        bodies += [types.CHAT_REQUEST, types.COMPLETION_REQUEST]
        answers += [chat_answer(), text_answer()]
    if task is Task.EMBEDDING:
        bodies.append(types.EMBEDDING_REQUEST)
        answers.append({"type": "object"})
    request = json_body({"anyOf": bodies})
    request |= {media.JSON_LINES: {}, media.CSV: {}, media.TEXT: {}}
    answer = json_body({"anyOf": answers})
    answer |= {media.JSON_LINES: {}, media.CSV: {}, media.EVENT_STREAM: {}}
    parameters: list[Schema] = [ATTRIBUTES_HEADER, ADAPTER_HEADER]
    return operation(f"{task}", answer, failures=ANSWERING, request=request, parameters=parameters)


def chat_answer() -> Schema:
    """A chat completion."""
    message = {
        "role": {"const": "assistant"},
        "content": types.optional(types.TEXT),
        "refusal": {},
        "tool_calls": types.items({"type": "object"}, minItems=1),
    }
    return types.completion_answer(
        "chat.completion", {"message": types.closed(message, "role", "content")}
    )


def text_answer() -> Schema:
    """A completion."""
    return types.completion_answer("text_completion", {"text": types.TEXT})


def openai_paths(task: Task) -> Schema:
    """The /v1 routes that this task answers, and those of adapters."""
    listed: Schema = types.closed(
        {"object": {"const": "list"}, "data": types.items({"type": "object"})}, "object", "data"
    )
    name = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
    unready = (404, 429, 500, 503)
    paths: Schema = {
        openai.MODELS: {"get": operation("Models", json_body(listed), failures=unready)},
        openai.MODELS + "/{name}": {
            "get": operation(
                "A model", json_body({"type": "object"}), failures=unready, parameters=[name]
            )
        },
    }
    if task is Task.EMBEDDING:
        paths[openai.EMBEDDINGS] = {
            "post": operation(
                "Embeddings",
                json_body({"type": "object", "properties": {"usage": types.USAGE}}),
                failures=ANSWERING,
                request=json_body(types.EMBEDDING_REQUEST),
                parameters=[ADAPTER_HEADER],
            )
        }
    if task is Task.TEXT_GENERATION:
        for path, body, answer in (
            (openai.CHAT, types.CHAT_REQUEST, chat_answer()),
            (openai.COMPLETIONS, types.COMPLETION_REQUEST, text_answer()),
        ):
            paths[path] = {
                "post": operation(
                    "Generate text",
                    json_body(answer) | {media.EVENT_STREAM: {}},
                    failures=ANSWERING,
                    request=json_body(body),
                    parameters=[ADAPTER_HEADER],
                )
            }
    return paths | adapter_paths(name)


def adapter_paths(name: Schema) -> Schema:
    """Listing, loading and unloading of adapters."""
    done = json_body(types.closed({"message": types.TEXT, "name": types.TEXT}, "message", "name"))
    listed = json_body(types.closed({"adapters": types.items(types.TEXT)}, "adapters"))
    return {
        "/adapters": {
            "get": operation("Loaded adapters", listed, failures=(429, 500, 503)),
            "post": operation(
                "Load an adapter",
                done,
                failures=MANAGING,
                request=json_body(types.ADAPTER_REQUEST),
            ),
        },
        "/adapters/{name}": {
            "delete": operation(
                "Unload an adapter", done, failures=(404, 429, 500, 503), parameters=[name]
            )
        },
    }


def multi_model_paths() -> Schema:
    """The routes of a multi-model endpoint."""
    name: Any = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
    model = types.closed({"modelName": types.TEXT, "modelUrl": types.TEXT}, "modelName", "modelUrl")
    body = types.closed({"model_name": types.TEXT, "url": types.TEXT}, "model_name", "url")
    one = functools.partial(operation, failures=(404, 429, 500, 503), parameters=[name])
    return {
        "/models": {
            "get": operation(
                "Loaded models",
                json_body(types.closed({"models": types.items(model)}, "models")),
                failures=(429, 500, 503),
            ),
            "post": operation(
                "Load a model", json_body(model), failures=MANAGING, request=json_body(body)
            ),
        },
        "/models/{name}": {
            "get": one("A model", json_body(model)),
            "delete": one("Unload a model", json_body({"type": "object"})),
        },
        "/models/{name}/invoke": {
            "post": operation(
                "The model's answer",
                {"*/*": {}},
                failures=ANSWERING,
                request={"*/*": {}},
                parameters=[name],
            )
        },
    }
