# ruff: noqa: N818 - the classes are named after the HTTP statuses they become
"""Errors that a client may see, and those that stop the server from starting.

What a client reads is `{"error": {"code", "message", "type"}}`: the code is for programs, the
message names the field, the value and the fix. Internals (paths, stack traces) go to the log only.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

ADAPTER_REQUIRED = "adapter_required"
"""Code of the refusal where the base model cannot answer by itself."""


class ServeError(Exception):
    """A refusal or failure with its HTTP status; `retry_after` is in seconds."""

    status = 500
    code = "internal_error"
    retry_after: int | None = None

    def __init__(
        self, message: str, *, code: str | None = None, retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.headers: dict[str, str] = {}
        if code is not None:
            self.code = code
        if retry_after is not None:
            self.retry_after = retry_after

    def body(self) -> dict[str, dict[str, str]]:
        """The JSON document sent to the client; `type` is what OpenAI's client asks for."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        return {"error": {"code": self.code, "message": self.message, "type": kind}}


class BadRequest(ServeError):
    """The request is malformed or asks for something that does not exist."""

    status = 400
    code = "bad_request"


class BadInput(BadRequest):
    """One input of several is bad; `fault` goes on from its name, as in " is empty".

    Engines count inputs. Whoever knows how a client wrote them puts their names, by `naming`.
    """

    def __init__(self, index: int, fault: str, *, code: str | None = None) -> None:
        super().__init__(f"inputs[{index}]{fault}", code=code)
        self.index = index
        self.fault = fault


class BadPrompt(BadRequest):
    """A prompt cannot be answered. Where it stands among others, `naming` says."""


class NotFound(ServeError):
    """No such route, model or adapter."""

    status = 404
    code = "not_found"


class Conflict(ServeError):
    """The model or adapter is loaded already."""

    status = 409
    code = "conflict"


class PayloadTooLarge(ServeError):
    """The body is over the payload limit."""

    status = 413
    code = "payload_too_large"


class UnsupportedMediaType(ServeError):
    """The Content-Type is not one we read."""

    status = 415
    code = "unsupported_media_type"


class NotAcceptable(ServeError):
    """No type in Accept is one that we write."""

    status = 406
    code = "not_acceptable"


class TooManyRequests(ServeError):
    """The queue is full; the client should come back."""

    status = 429
    code = "queue_full"
    retry_after = 1


class NotReady(ServeError):
    """Loading, draining or broken: nothing is answered now."""

    status = 503
    code = "not_ready"
    retry_after = 5


class TimedOut(ServeError):
    """The answer would have come after the platform's own time limit."""

    status = 504
    code = "timeout"


class OutOfMemory(ServeError):
    """No room for another model (the status that multi-model hosting prescribes)."""

    status = 507
    code = "out_of_memory"


class EngineError(ServeError):
    """The engine failed on this request."""

    status = 500
    code = "engine_error"


class DeviceError(EngineError):
    """The GPU failed, and answers nothing in this process any more."""


class StartupError(Exception):
    """The server cannot start; the message says why and what to do about it."""


def adapter_not_found(name: str, loaded: Sequence[str]) -> NotFound:
    """The error for an adapter that is not there: the base model never answers in its place."""
    known = f"loaded are {', '.join(loaded)}" if loaded else "none is loaded"
    return NotFound(f"adapter {name[:100]!r} is not loaded: {known}", code="adapter_not_found")


@contextlib.contextmanager
def naming(name: Callable[[int], str]) -> Iterator[None]:
    """Errors of inputs inside get the name under which the client wrote the input."""
    try:
        yield
    except BadInput as error:
        raise BadRequest(name(error.index) + error.fault, code=error.code) from error
    except BadPrompt as error:
        raise BadRequest(f"{name(0)}: {error.message}", code=error.code) from error


@contextlib.contextmanager
def placing(place: Callable[[int], tuple[int, str]]) -> Iterator[None]:
    """Errors of inputs that were made of others get the place and the part of their origin."""
    try:
        yield
    except BadInput as error:
        index, part = place(error.index)
        raise BadInput(index, part + error.fault, code=error.code) from error


def first_of(failures: ExceptionGroup[Exception]) -> Exception:
    """The request's own error among those of a task group, else whatever came first.

    `except*` would do, but Python before 3.11.4 wraps what is raised there in a group again.
    """
    return next(
        (failure for failure in failures.exceptions if isinstance(failure, ServeError)),
        failures.exceptions[0],
    )


def write_failure(error: ServeError) -> tuple[Any, ...]:
    """An error as plain values, to be sent to another process."""
    if isinstance(error, BadInput):
        return BadInput.__name__, error.fault, error.code, error.index
    kinds = (kind for kind in type(error).__mro__ if "__init__" not in vars(kind))
    return next(kinds, ServeError).__name__, error.message, error.code


def read_failure(name: str, message: str, code: str, index: int | None = None) -> ServeError:
    """The error again, or the nearest kind that takes a message alone."""
    if index is not None:
        return BadInput(index, message, code=code)
    kind: type[ServeError] = globals().get(name, EngineError)
    return kind(message, code=code)
