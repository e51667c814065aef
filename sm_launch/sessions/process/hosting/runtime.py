"""Invocations: what the sagemaker-runtime client does, straight to the endpoint's server."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import random
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from botocore.response import StreamingBody

from sm_launch.sessions.errors import ModelError, ServiceError
from sm_launch.sessions.process import uris
from sm_launch.sessions.process.base import Machine, Request, Response
from sm_launch.sessions.process.hosting.async_queue import enqueue
from sm_launch.sessions.process.hosting.capture import Capture, Exchange
from sm_launch.sessions.process.hosting.endpoints import Endpoints

_CHUNK_BYTES = 65_536
_ASYNC_DEFAULT_TTL_SECONDS = 6 * 3600
_ASYNC_DEFAULT_TIMEOUT_SECONDS = 15 * 60
_ASYNC_HEADERS = {
    "ContentType": "Content-Type",
    "Accept": "Accept",
    "CustomAttributes": "X-Amzn-SageMaker-Custom-Attributes",
    "InferenceId": "X-Amzn-SageMaker-Inference-Id",
}


@dataclass(frozen=True)
class _Route:
    """Where one request goes.

    Attributes:
        variant: the production variant.
        ports: of all variants, as they were when the route was chosen.
        capture: the endpoint's DataCaptureConfig, if it captures.
    """

    variant: str
    ports: dict[str, int]
    capture: dict[str, Any] | None

    @property
    def port(self) -> int:
        """The port of the variant's server."""
        return self.ports[self.variant]


class Runtime:
    """What the sagemaker-runtime client does, answered at once, as a stream, or by a file."""

    def __init__(self, machine: Machine, endpoints: Endpoints) -> None:
        self._endpoints = endpoints
        self._machine = machine
        self._captures: dict[tuple[str, str, str], Capture] = {}

    def invoke(self, **request: Any) -> Response:
        """One request to the model.

        Returns:
            `Body` (a readable StreamingBody), `ContentType`, `InvokedProductionVariant` and the
            headers that SageMaker passes on, `CustomAttributes` among them.

        Raises:
            ModelError: the server did not answer with 2xx; the response holds OriginalStatusCode
                (0 without an answer) and OriginalMessage.
            ServiceError: there is no such endpoint, or it is not in service.
        """
        operation = "InvokeEndpoint"
        body = _body(request)
        route, connection, answer = self._send(operation, request, body)
        with contextlib.closing(connection):
            try:
                content = answer.read()
            except (OSError, http.client.HTTPException) as error:
                raise _no_answer(operation, route, error) from error
        response = self._response(operation, route, answer)
        if capture := self._capture(request["EndpointName"], route):
            capture.record(Exchange(request, body, content, response["ContentType"]))
        return {**response, "Body": StreamingBody(io.BytesIO(content), len(content))}

    def invoke_with_stream(self, **request: Any) -> Response:
        """One request; `Body` yields `{"PayloadPart": {"Bytes": …}}` as the server writes."""
        operation = "InvokeEndpointWithResponseStream"
        route, connection, answer = self._send(operation, request, _body(request))
        return {**self._response(operation, route, answer), "Body": _parts(connection, answer)}

    def invoke_async(self, **request: Any) -> Response:
        """Queue a request for an endpoint with an AsyncInferenceConfig.

        Returns:
            `InferenceId`, `OutputLocation` (the file that will hold the answer) and
            `FailureLocation` (the one that will say why there is none).
        """
        operation = "InvokeEndpointAsync"
        self._machine.runtime_validator.check(operation, request)
        record, _ = self._endpoints.get(request["EndpointName"], operation)
        state = self._endpoints.in_service(request["EndpointName"], operation)
        config = state.get("AsyncInferenceConfig")
        if config is None:
            raise ServiceError(
                f"Endpoint {record.name} is not asynchronous: its configuration has no "
                "AsyncInferenceConfig. Use invoke_endpoint",
                operation,
            )
        source = uris.to_path(_input_location(request, operation), "InputLocation")
        if not source.is_file():
            raise ServiceError(f"InputLocation: there is no file {str(source)!r}", operation)
        identity = str(uuid.uuid4())
        target = config["OutputConfig"]
        output = uris.join(target["S3OutputPath"], f"{identity}.out")
        failed = target.get("S3FailurePath") or uris.join(target["S3OutputPath"], "failures")
        failure = uris.join(failed, f"{identity}-error.out")
        order = {
            "id": identity,
            "input": str(source),
            "output": str(uris.to_path(output, "S3OutputPath")),
            "failure": str(uris.to_path(failure, "S3FailurePath")),
            "headers": {
                name: request[key] for key, name in _ASYNC_HEADERS.items() if key in request
            },
            "expires": time.time() + request.get("RequestTTLSeconds", _ASYNC_DEFAULT_TTL_SECONDS),
            "timeout": request.get("InvocationTimeoutSeconds", _ASYNC_DEFAULT_TIMEOUT_SECONDS),
        }
        enqueue(record, order)
        return {
            "InferenceId": request.get("InferenceId", identity),
            "OutputLocation": output,
            "FailureLocation": failure,
            "ResponseMetadata": {"HTTPStatusCode": 202},
        }

    def _send(
        self, operation: str, request: Request, body: bytes
    ) -> tuple[_Route, http.client.HTTPConnection, http.client.HTTPResponse]:
        self._machine.runtime_validator.check(operation, {**request, "Body": body})
        headers = self._headers(operation, request)
        route, connection = self._connect(request, operation)
        try:
            connection.request("POST", "/invocations", body, headers)
            answer = connection.getresponse()
            if 200 <= answer.status < 300:
                return route, connection, answer
            text = answer.read().decode("utf-8", "replace")
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise _no_answer(operation, route, error) from error
        connection.close()
        raise ModelError(operation, route.variant, answer.status, text)

    def _connect(
        self, request: Request, operation: str
    ) -> tuple[_Route, http.client.HTTPConnection]:
        """A connection to one of the endpoint's servers, which an update may replace any time."""
        route = self._route(request, operation)
        while True:
            timeout = self._machine.settings.invocation_timeout
            connection = http.client.HTTPConnection("127.0.0.1", route.port, timeout=timeout)
            try:
                connection.connect()
            except OSError as error:
                previous, route = route, self._route(request, operation)
                if route.ports == previous.ports:
                    raise _no_answer(operation, route, error) from error
            else:
                return route, connection

    def _route(self, request: Request, operation: str) -> _Route:
        """The variant that gets this request: the one it names, else one drawn by weight."""
        name = request["EndpointName"]
        state = self._endpoints.in_service(name, operation)
        if "AsyncInferenceConfig" in state:
            raise ServiceError(
                f"Endpoint {name} is asynchronous: use invoke_endpoint_async", operation
            )
        weights = {
            each["VariantName"]: each["CurrentWeight"] for each in state["ProductionVariants"]
        }
        variant = request.get("TargetVariant")
        if variant is None:
            # All weights 0 is legal; SageMaker then sends nothing anywhere.
            if not any(weights.values()):
                raise ServiceError(f"All variants of endpoint {name} have weight 0", operation)
            (variant,) = random.choices(list(weights), list(weights.values()))  # noqa: S311
        if variant not in state["ports"]:
            raise ServiceError(
                f"Variant {variant!r} of endpoint {name} was not found; there are "
                f"{sorted(state['ports'])}",
                operation,
            )
        return _Route(variant, state["ports"], state.get("capture"))

    def _capture(self, endpoint: str, route: _Route) -> Capture | None:
        """What writes this variant's captured data, if it has any."""
        if route.capture is None:
            return None
        key = (endpoint, route.variant, json.dumps(route.capture))
        if key not in self._captures:
            self._captures[key] = Capture(route.capture, endpoint, route.variant)
        return self._captures[key]

    def _headers(self, operation: str, request: Request) -> dict[str, str]:
        names = self._machine.runtime_validator.header_names(operation)[0]
        headers = {names[key]: str(value) for key, value in request.items() if key in names}
        # The streaming operation renames Accept on its way to the service, not to the container.
        if "Accept" in request:
            headers.pop(names["Accept"])
            headers["Accept"] = request["Accept"]
        headers.setdefault("Accept", "*/*")
        headers.setdefault("Content-Type", "application/octet-stream")
        return headers

    def _response(
        self, operation: str, route: _Route, answer: http.client.HTTPResponse
    ) -> Response:
        names = self._machine.runtime_validator.header_names(operation)[1]
        response = {key: value for key, name in names.items() if (value := answer.getheader(name))}
        return {
            **response,
            "ContentType": answer.getheader("Content-Type", ""),
            "InvokedProductionVariant": route.variant,
            "ResponseMetadata": {"HTTPStatusCode": answer.status},
        }


def _body(request: Request) -> bytes:
    """The body in one of the forms that botocore takes: bytes, text or a file."""
    body = request.get("Body", b"")
    body = body.read() if hasattr(body, "read") else body
    return body.encode() if isinstance(body, str) else bytes(body)


def _input_location(request: Request, operation: str) -> str:
    for key in ("Body", "S3OutputPathExtension", "Filename"):
        if key in request:
            raise ServiceError(f"the process target does not take {key} here", operation)
    if "InputLocation" not in request:
        raise ServiceError("InputLocation is missing: give a file:// URI", operation)
    location: str = request["InputLocation"]
    return location


def _no_answer(operation: str, route: _Route, error: Exception) -> ModelError:
    return ModelError(operation, route.variant, 0, f"{type(error).__name__}: {error}")


def _parts(
    connection: http.client.HTTPConnection, answer: http.client.HTTPResponse
) -> Iterator[dict[str, dict[str, bytes]]]:
    with contextlib.closing(connection):
        while True:
            try:
                chunk = answer.read1(_CHUNK_BYTES)
            except (OSError, http.client.HTTPException) as error:
                raise ServiceError(
                    f"The model's stream broke off: {type(error).__name__}: {error}",
                    "InvokeEndpointWithResponseStream",
                    code="ModelStreamError",
                    details={"ErrorCode": "StreamBroken"},
                ) from error
            if not chunk:
                return
            yield {"PayloadPart": {"Bytes": chunk}}
