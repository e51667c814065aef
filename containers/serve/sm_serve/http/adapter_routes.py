"""Routes for adapters, as AWS's model-hosting-container-standards has them."""

from __future__ import annotations

import asyncio
from pathlib import Path

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sm_serve.artefact.artefact import ADAPTER_CONFIG, check_links
from sm_serve.errors import BadRequest, Conflict, NotFound, StartupError
from sm_serve.handlers.engine import EngineHandler
from sm_serve.http.middleware import read_request
from sm_serve.http.routing import by_method
from sm_serve.protocol import AdapterHost
from sm_serve.schemas import media
from sm_serve.schemas.field_table import ADAPTER_LOADING
from sm_serve.schemas.fields import Values
from sm_serve.schemas.openai import require_object
from sm_serve.service import Service

ADAPTERS = "/adapters"
MAX_NAME = 256


def adapter_routes(service: Service) -> list[Route]:
    """List, load, unload."""

    async def list_adapters(request: Request) -> Response:
        return JSONResponse({"adapters": list(host(service).adapters())})

    async def load(request: Request) -> Response:
        engine = host(service)
        incoming = await read_request(request.scope, request.receive, service)
        document = await incoming.read(media.PLAIN_JSON)
        fields = Values(ADAPTER_LOADING, require_object(document.value))
        name = read_name(fields, service)
        path = read_path(fields, service.settings.base_dir)
        # A client that leaves must not stop the model half changed.
        await asyncio.shield(asyncio.ensure_future(engine.load_adapter(name, path)))
        service.handed.changes.load(name, path)
        return JSONResponse({"message": f"Adapter {name} registered", "name": name})

    async def unload(request: Request) -> Response:
        name = request.path_params["name"]
        await asyncio.shield(asyncio.ensure_future(host(service).unload_adapter(name)))
        service.handed.changes.unload(name)
        return JSONResponse({"message": f"Adapter {name} unregistered", "name": name})

    return [
        by_method(ADAPTERS, get=list_adapters, post=load),
        Route(ADAPTERS + "/{name:path}", unload, methods=["DELETE"]),
    ]


def host(service: Service) -> AdapterHost:
    """The engine. NotFound where it has no adapters."""
    handler = service.handler
    if isinstance(handler, EngineHandler) and isinstance(handler.engine, AdapterHost):
        return handler.engine
    raise NotFound("this model takes no adapters: a script answers by itself")


def read_name(fields: Values, service: Service) -> str:
    """A name that no model or other adapter has."""
    name = fields.get("name")
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME or not name.isprintable():
        raise fields.wrong("name", name, f"give a printable name of 1 to {MAX_NAME} characters")
    if name == service.settings.served_name:
        raise Conflict(f"{name!r} is the model's own name: give another one")
    return name


def read_path(fields: Values, root: Path) -> Path:
    """The adapter's directory: below the base directory, with no links out of it."""
    source = fields.get("src")
    if not isinstance(source, str) or not source:
        raise fields.wrong("src", source, "give the adapter's directory")
    local = source.removeprefix("file://")
    if "://" in local:
        raise fields.wrong("src", source, f"nothing is downloaded: give a directory below {root}")
    path = Path(root, local)
    try:
        inside = path.resolve().is_relative_to(root.resolve())
        if not inside or not (path / ADAPTER_CONFIG).is_file():
            raise fields.wrong(
                "src", source, f"give a directory below {root} with {ADAPTER_CONFIG}"
            )
        check_links(path)
    except (OSError, ValueError) as error:  # too long a name, a zero byte
        raise fields.wrong("src", source, "this is no path") from error
    except StartupError as error:
        raise BadRequest(f"src: {error}") from error
    return path
