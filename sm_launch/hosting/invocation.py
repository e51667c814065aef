"""One request to an endpoint: answered at once, piece by piece, or by way of a queue."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sm_launch.hosting import streaming
from sm_launch.target.context import JobContext

JSON = "application/json"
CONTENT_TYPES = {
    ".jsonl": "application/jsonlines",
    ".json": JSON,
    ".csv": "text/csv",
    ".txt": "text/plain",
}
"""Of a file that is sent, by its ending."""


@dataclass(frozen=True)
class Invocation:
    """What is sent.

    Attributes:
        endpoint: its name.
        body: of the request.
        content_type: of the body.
        variant: the production variant that is asked; default: by weight.
        component: the inference component that is asked.
    """

    endpoint: str
    body: bytes
    content_type: str = JSON
    variant: str | None = None
    component: str | None = None

    def request(self) -> dict[str, Any]:
        """The arguments of InvokeEndpoint."""
        wanted = {"TargetVariant": self.variant, "InferenceComponentName": self.component}
        return {
            "EndpointName": self.endpoint,
            "Body": self.body,
            "ContentType": self.content_type,
            **{key: value for key, value in wanted.items() if value},
        }


@dataclass(frozen=True)
class Answer:
    """What came back."""

    text: str
    content_type: str


def invoke(context: JobContext, invocation: Invocation, accept: str = JSON) -> Answer:
    """Send a request and wait for the whole answer."""
    reply = context.session.invoke_endpoint(**invocation.request(), Accept=accept)
    text = reply["Body"].read().decode("utf-8", errors="replace")
    return Answer(text, str(reply.get("ContentType", accept)))


def stream(context: JobContext, invocation: Invocation) -> Iterator[bytes]:
    """Send a request; the answer's events as they come (`streaming.texts` reads them)."""
    reply = context.session.invoke_endpoint_with_response_stream(
        **invocation.request(), Accept="*/*"
    )
    return streaming.chunks(reply["Body"])


def invoke_queued(
    context: JobContext, invocation: Invocation, accept: str = JSON, timeout: float = 900.0
) -> Answer:
    """Send a request to an asynchronous endpoint and wait for its answer.

    Args:
        context: where the endpoint is.
        invocation: what is sent.
        accept: wanted content type of the answer.
        timeout: seconds to wait at most.

    Raises:
        UserInputError: the endpoint is not asynchronous.
        LaunchError: the model failed, or there was no answer in time.
    """
    from sm_launch.hosting import asynchronous

    answer = asynchronous.invoke(
        context.session,
        invocation.endpoint,
        invocation.body,
        content_type=invocation.content_type,
        accept=accept,
        timeout=timeout,
        objects=asynchronous.Objects(context.clients),
    )
    return Answer(answer.decode("utf-8", errors="replace"), accept)
