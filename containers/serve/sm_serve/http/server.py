"""The ASGI application: routes over the service."""

from __future__ import annotations

from functools import partial

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from sm_serve.errors import NotFound
from sm_serve.handlers.engine import EngineHandler
from sm_serve.http import openapi
from sm_serve.http.adapter_routes import adapter_routes
from sm_serve.http.client_routes import client_routes
from sm_serve.http.middleware import RequestMiddleware, respond
from sm_serve.http.model_routes import model_routes
from sm_serve.schemas import openai
from sm_serve.service import Service

TRANSFORM_MB = 6
CONCURRENT_TRANSFORMS = 16
"""What /execution-parameters proposes; the product may be at most 100 (CreateTransformJob)."""


class Invocations:
    """POST /invocations: one raw ASGI endpoint, as this is the path that has to be lean."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        service = self._service
        await respond(scope, receive, send, service, service.handler.invoke)


class OpenAIRoute:
    """POST /v1/…: the same engine in OpenAI's format."""

    def __init__(self, service: Service, route: str) -> None:
        self._service = service
        self._route = route

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        invoke = partial(engine_handler(self._service).invoke_openai, self._route)
        await respond(scope, receive, send, self._service, invoke)


def engine_handler(service: Service) -> EngineHandler:
    """The loaded handler; NotFound where a script answers by itself."""
    handler = service.handler
    if not isinstance(handler, EngineHandler):
        raise NotFound("only /invocations is answered here")
    return handler


def build_app(service: Service) -> ASGIApp:
    """The application for a service; loading is started by whoever runs it."""

    async def ping(request: Request) -> Response:
        problem = service.health.problem()
        if problem is None:
            return JSONResponse({"status": "healthy"})
        return JSONResponse({"status": "unhealthy", "reason": problem}, 503)

    async def execution_parameters(request: Request) -> Response:
        return JSONResponse(
            {
                "MaxConcurrentTransforms": CONCURRENT_TRANSFORMS,
                "BatchStrategy": "MULTI_RECORD",
                "MaxPayloadInMB": TRANSFORM_MB,
            }
        )

    async def metrics(request: Request) -> Response:
        text = service.metrics.render(service.health.problem() is None, service.stats())
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")

    async def document(request: Request) -> Response:
        return JSONResponse(openapi.build_document(service.task, service.settings))

    async def models(request: Request) -> Response:
        names = engine_handler(service).openai.names
        return JSONResponse(openai.write_models(names, service.about()))

    async def model(request: Request) -> Response:
        names = engine_handler(service).openai.names
        name = request.path_params["name"]
        if name not in names:
            raise NotFound(f"model {name!r} does not exist: give one of {', '.join(names)}")
        listed = openai.write_models(names, service.about())["data"]
        return JSONResponse(listed[names.index(name)])

    routes = [
        *(Route(route, OpenAIRoute(service, route), methods=["POST"]) for route in openai.ROUTES),
        Route(openai.MODELS, models, methods=["GET"]),
        Route(openai.MODELS + "/{name:path}", model, methods=["GET"]),
        Route("/ping", ping, methods=["GET"]),
        Route("/invocations", Invocations(service), methods=["POST"]),
        Route("/execution-parameters", execution_parameters, methods=["GET"]),
        Route("/metrics", metrics, methods=["GET"]),
        Route(openapi.PATH, document, methods=["GET"]),
    ]
    routes += client_routes(service)
    routes += model_routes(service) if service.settings.multi_model else adapter_routes(service)
    return RequestMiddleware(Router(routes, redirect_slashes=False), service)
