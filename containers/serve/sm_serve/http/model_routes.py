"""Routes of multi-model endpoints (hosting guide, "Contract for multi-model endpoints")."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from sm_serve.errors import BadRequest
from sm_serve.handlers.model_store import ModelStore
from sm_serve.http.middleware import read_request, respond
from sm_serve.http.routing import by_method
from sm_serve.schemas import media
from sm_serve.service import Service


class InvokeModel:
    """POST /models/{name}/invoke."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        service = self._service
        with store(service).using(scope["path_params"]["name"]) as handler:
            await respond(scope, receive, send, service, handler.invoke)


def store(service: Service) -> ModelStore:
    """The store behind a multi-model service."""
    return cast(ModelStore, service.handler)


def describe(name: str, url: str) -> dict[str, str]:
    """A model as the platform wants to see it."""
    return {"modelName": name, "modelUrl": url}


def model_routes(service: Service) -> list[Route]:
    """List, load, get, unload, invoke."""

    async def list_models(request: Request) -> Response:
        return JSONResponse({"models": [describe(*entry) for entry in store(service).names()]})

    async def load(request: Request) -> Response:
        incoming = await read_request(request.scope, request.receive, service)
        body: Any = (await incoming.read(media.PLAIN_JSON)).value
        names = ("model_name", "url")
        if not isinstance(body, dict) or not all(isinstance(body.get(n), str) for n in names):
            raise BadRequest('send {"model_name": text, "url": directory}')
        await store(service).load(body["model_name"], body["url"])
        return JSONResponse(describe(body["model_name"], body["url"]))

    async def get(request: Request) -> Response:
        name = request.path_params["name"]
        return JSONResponse(describe(name, store(service).get(name)[0]))

    async def unload(request: Request) -> Response:
        unloading = store(service).unload(request.path_params["name"])
        await asyncio.shield(asyncio.ensure_future(unloading))
        return JSONResponse({})

    return [
        by_method("/models", get=list_models, post=load),
        Route("/models/{name}/invoke", InvokeModel(service), methods=["POST"]),
        by_method("/models/{name}", get=get, delete=unload),
    ]
