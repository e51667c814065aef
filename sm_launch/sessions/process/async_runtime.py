"""`invoke_endpoint_async`: the request is queued, the answer becomes a file."""

from __future__ import annotations

import time
import uuid
from typing import Any

from sm_launch.sessions.errors import ServiceError
from sm_launch.sessions.process import uris
from sm_launch.sessions.process.async_run import enqueue
from sm_launch.sessions.process.base import Machine, Request, Response
from sm_launch.sessions.process.hosting import Endpoints

_DEFAULT_TTL_SECONDS = 6 * 3600
_DEFAULT_TIMEOUT_SECONDS = 15 * 60
_HEADERS = {
    "ContentType": "Content-Type",
    "Accept": "Accept",
    "CustomAttributes": "X-Amzn-SageMaker-Custom-Attributes",
    "InferenceId": "X-Amzn-SageMaker-Inference-Id",
}


class AsyncRuntime:
    """The asynchronous half of the runtime client."""

    def __init__(self, machine: Machine, endpoints: Endpoints) -> None:
        self._endpoints = endpoints
        self._machine = machine

    def invoke(self, **request: Any) -> Response:
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
            "headers": {name: request[key] for key, name in _HEADERS.items() if key in request},
            "expires": time.time() + request.get("RequestTTLSeconds", _DEFAULT_TTL_SECONDS),
            "timeout": request.get("InvocationTimeoutSeconds", _DEFAULT_TIMEOUT_SECONDS),
        }
        enqueue(record, order)
        return {
            "InferenceId": request.get("InferenceId", identity),
            "OutputLocation": output,
            "FailureLocation": failure,
            "ResponseMetadata": {"HTTPStatusCode": 202},
        }


def _input_location(request: Request, operation: str) -> str:
    for key in ("Body", "S3OutputPathExtension", "Filename"):
        if key in request:
            raise ServiceError(f"the process target does not take {key} here", operation)
    if "InputLocation" not in request:
        raise ServiceError("InputLocation is missing: give a file:// URI", operation)
    location: str = request["InputLocation"]
    return location
