"""The outermost layer: admission, request ids, deadlines, disconnects, errors, log, metrics."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import time
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, TypeVar, cast

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sm_serve import contract
from sm_serve.engines.turns import OWNER
from sm_serve.errors import (
    BadRequest,
    NotReady,
    PayloadTooLarge,
    ServeError,
    TimedOut,
    TooManyRequests,
)
from sm_serve.handlers.admission import Ticket
from sm_serve.handlers.answer import Answer, Incoming
from sm_serve.schemas import openai
from sm_serve.service import Service
from sm_serve.telemetry.health import Phase

logger = logging.getLogger(__name__)
access = logging.getLogger("sm_serve.access")

T = TypeVar("T")
ALWAYS_ANSWERED = {
    "/ping",
    "/metrics",
    "/execution-parameters",
    "/openapi.json",
    "/health",
    "/version",
}
"""Routes that answer at any time, however full the queue is."""
LABELLED = {"/invocations", "/models", "/adapters", openai.MODELS, *openai.ROUTES}
MAX_REQUEST_ID = 128
DISCARD_SECONDS = 2.0
DISCARD_FACTOR = 8
RECEIVING_FACTOR = 4
"""Slow bodies take no place from requests that are being answered, and may be so many more."""


class ClientGoneError(Exception):
    """The client closed the connection before its answer."""


class RequestMiddleware:
    """Wraps the routes. Every request that gets in is answered once, with a request id."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service
        # Together unlike any other server's; random ones for each request would ask the kernel.
        prefix = uuid.uuid4().hex[:16]
        self._owners = itertools.count(1)
        self._ids = (f"{prefix}{number:016x}" for number in itertools.count())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope["app"] = self  # starlette then raises 404 and 405 instead of writing plain text
        if scope["path"] in ALWAYS_ANSWERED:
            await self._answer(scope, receive, send)
            return
        metrics = self._service.metrics
        exchange = _Exchange(scope, send, self._service, self._ids)
        refusal = self._refusal()
        if refusal is not None:
            await _discard(receive, self._service.settings.max_payload_bytes)
            await _send_error(exchange.send, refusal)
            exchange.finish()
            return
        metrics.in_flight += 1
        OWNER.set(next(self._owners))
        try:
            await self._answer(scope, receive, exchange.send)
        except ClientGoneError:
            metrics.disconnects += 1
            exchange.status = 499
        finally:
            metrics.in_flight -= 1
            exchange.ticket.close()
            exchange.finish()

    def _refusal(self) -> ServeError | None:
        service = self._service
        if service.health.phase is Phase.DRAINING:
            return NotReady("the server is stopping: send the request again", retry_after=1)
        metrics, most = service.metrics, service.settings.max_in_flight
        if metrics.in_flight - metrics.receiving >= most:
            return _too_many(service)
        if metrics.receiving >= most * RECEIVING_FACTOR:
            return TooManyRequests(f"{metrics.receiving} bodies are arriving already: try again")
        return None

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        except ServeError as error:
            if isinstance(error, PayloadTooLarge | TooManyRequests) and not scope.get("read"):
                await _discard(receive, self._service.settings.max_payload_bytes)
            await _send_error(send, error)
        except HTTPException as error:
            await _send_error(send, _from_http(error, scope))
        except ClientGoneError:
            raise
        except Exception:
            logger.exception("request %s failed", scope.get("request_id", ""))
            await _send_error(send, ServeError("the server failed on this request"))


class _Exchange:
    """One request: its id, what is sent, its line in the log."""

    def __init__(self, scope: Scope, send: Send, service: Service, ids: Iterator[str]) -> None:
        self._scope = scope
        self._send = send
        self._service = service
        self._began = time.perf_counter()
        self._draining = service.health
        self.status = 0
        self.id = _client_id(scope) or next(ids)
        scope["request_id"] = self.id
        self.ticket = scope["ticket"] = service.admission.ticket()

    async def send(self, message: Message) -> None:
        """Adds the request id, and asks the client to leave a server that is stopping."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self._service.metrics.first_byte.observe(time.perf_counter() - self._began)
            headers = [*message["headers"], (b"x-request-id", self.id.encode("latin-1"))]
            if self._draining.phase is Phase.DRAINING:
                headers.append((b"connection", b"close"))
            message = {**message, "headers": headers}
        await self._send(message)

    def finish(self) -> None:
        """Counts and logs; the log never holds bodies."""
        seconds = time.perf_counter() - self._began
        path = self._scope["path"]
        # Paths are the client's words: only known ones may become labels.
        route = path if path in LABELLED else "other"
        self._service.metrics.finished(route, self.status, seconds)
        access.info(
            "request=%s method=%s path=%s status=%d ms=%.1f",
            self.id,
            self._scope["method"],
            json.dumps(path)[1:-1],
            self.status,
            seconds * 1000,
        )


def _client_id(scope: Scope) -> str | None:
    """The client's own id where it sent a harmless one."""
    for wanted in (contract.HEADER_INFERENCE_ID.encode(), b"x-request-id"):
        for name, value in scope["headers"]:
            if name == wanted:
                text: str = value.decode("latin-1")
                if 0 < len(text) <= MAX_REQUEST_ID and text.isascii() and text.isprintable():
                    return text
    return None


def _from_http(error: HTTPException, scope: Scope) -> ServeError:
    path, method = scope["path"][:100], scope["method"]
    if error.status_code == 405:
        failure = ServeError(f"{path} does not take {method}", code="method_not_allowed")
    elif error.status_code == 404:
        known = f": of OpenAI's there are {', '.join(openai.ROUTES)}" if path[:4] == "/v1/" else ""
        failure = ServeError(f"no route {path}{known}", code="not_found")
    else:
        failure = ServeError(str(error.detail), code="http_error")
    failure.status = error.status_code
    failure.headers = dict(error.headers or {})  # Allow, for 405
    return failure


async def _send_error(send: Send, error: ServeError) -> None:
    body = json.dumps(error.body()).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    headers += [(n.lower().encode(), v.encode()) for n, v in error.headers.items()]
    if error.retry_after is not None:
        headers.append((b"retry-after", str(error.retry_after).encode()))
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _discard(receive: Receive, limit: int) -> None:
    """Reads what the client is still sending, so that it gets to read our answer."""
    size = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DISCARD_SECONDS):
            while size <= limit * DISCARD_FACTOR:
                message = await receive()
                size += len(message.get("body", b""))
                if message["type"] != "http.request" or not message.get("more_body"):
                    return


async def read_request(scope: Scope, receive: Receive, service: Service) -> Incoming:
    """Reads a request to its end within the payload limit and the request timeout."""
    limit = service.settings.max_payload_bytes
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    declared = headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise _too_large(limit)
    if len(headers.get(contract.HEADER_CUSTOM_ATTRIBUTES, "")) > contract.MAX_CUSTOM_ATTRIBUTES:
        raise BadRequest(
            f"X-Amzn-SageMaker-Custom-Attributes is longer than {contract.MAX_CUSTOM_ATTRIBUTES}"
            " characters: shorten it"
        )
    chunks: list[bytes] = []
    size = 0
    metrics = service.metrics
    ticket: Ticket = scope["ticket"]
    metrics.receiving += 1
    try:
        async with asyncio.timeout(service.settings.request_timeout):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGoneError
                chunk = message.get("body", b"")
                size += len(chunk)
                if size > limit:
                    raise _too_large(limit)
                ticket.take_bytes(len(chunk))
                chunks.append(chunk)
                if not message.get("more_body"):
                    scope["read"] = True
                    break
    except TimeoutError:
        raise TimedOut("the request's body did not arrive in time: send it faster") from None
    finally:
        metrics.receiving -= 1
    if metrics.in_flight - metrics.receiving > service.settings.max_in_flight:
        raise _too_many(service)
    return Incoming(b"".join(chunks), headers, scope["request_id"], service.reader, ticket)


def _too_many(service: Service) -> TooManyRequests:
    most = service.settings.max_in_flight
    return TooManyRequests(f"{most} requests are in flight already: try again later")


async def respond(
    scope: Scope,
    receive: Receive,
    send: Send,
    service: Service,
    invoke: Callable[[Incoming], Coroutine[Any, Any, Answer]],
) -> None:
    """Reads a request, has it answered within the request timeout, and writes the answer."""
    request = await read_request(scope, receive, service)
    answer = await until_gone(invoke(request), receive, service, service.settings.request_timeout)
    await send_answer(answer, receive, send, service)


def _too_large(limit: int) -> PayloadTooLarge:
    return PayloadTooLarge(
        f"the body is over the limit of {limit} bytes: split it, or set"
        " SAGEMAKER_MAX_PAYLOAD_IN_MB (the platform itself takes 6 MB in real time)"
    )


async def until_gone(
    work: Coroutine[Any, Any, T], receive: Receive, service: Service, seconds: float
) -> T:
    """The result of `work`, which is cancelled when the client leaves or time is up.

    Raises NotReady where the service gives its engine up.
    """
    if (failure := service.failure_of_engine()) is not None:
        work.close()
        raise failure
    task = cast("asyncio.Task[Any]", asyncio.current_task())
    service.working.add(task)
    gone = False

    async def watch() -> None:
        nonlocal gone
        while (await receive())["type"] != "http.disconnect":
            pass
        gone = True
        task.cancel()

    watcher = asyncio.ensure_future(watch())
    deadline = asyncio.timeout(seconds)
    try:
        async with deadline:
            return await work
    except asyncio.CancelledError:
        if gone and task.uncancel() == 0:
            raise ClientGoneError from None
        if (failure := service.failure_of_engine()) is not None and task.uncancel() == 0:
            raise failure from None
        raise
    except TimeoutError:
        if deadline.expired():
            raise TimedOut(
                f"no answer within {seconds:g} s: ask for less, or use async inference"
            ) from None
        raise
    finally:
        service.working.discard(task)
        watcher.cancel()


async def send_answer(answer: Answer, receive: Receive, send: Send, service: Service) -> None:
    """Writes a response; a streamed one within the stream timeout."""
    headers = [(b"content-type", answer.media_type.encode("latin-1"))]
    headers += [
        (name.lower().encode("latin-1"), value.encode("latin-1"))
        for name, value in answer.headers.items()
    ]
    if isinstance(answer.body, bytes):
        headers.append((b"content-length", str(len(answer.body)).encode()))
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})
        return
    headers.append((b"cache-control", b"no-cache"))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    try:
        pieces = _send_pieces(answer.body, send)
        await until_gone(pieces, receive, service, service.settings.stream_timeout)
    except TimedOut:
        raise
    except ServeError as error:
        if answer.on_error is not None:
            body = answer.on_error(error)
            await send({"type": "http.response.body", "body": body, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _send_pieces(pieces: AsyncIterator[bytes], send: Send) -> None:
    try:
        async for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
    finally:
        close = getattr(pieces, "aclose", None)
        if close is not None:
            await close()
