"""Several methods of one path, so that a 405 names all of them in Allow."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

Endpoint = Callable[[Request], Awaitable[Response]]


def by_method(path: str, **endpoints: Endpoint) -> Route:
    """A route whose endpoints are keyed by method, as in `by_method("/x", get=f, post=g)`."""
    methods = {name.upper(): endpoint for name, endpoint in endpoints.items()}

    async def dispatch(request: Request) -> Response:
        return await methods["GET" if request.method == "HEAD" else request.method](request)

    return Route(path, dispatch, methods=list(methods))
