"""Sending requests with retries, and turning a SageMaker session into something to send to."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from sm_launch.errors import LaunchError
from sm_launch.evaluation.wire import Invoke, InvokeReply

RETRY_STATUSES = frozenset({429, 502, 503, 504})
"""Throttled, or not able to answer just now. A 500 may be the row's fault: it is not repeated."""

THROTTLING_CODES = frozenset({"Throttling", "ThrottlingException", "TooManyRequestsException"})
FATAL_CODES = frozenset(
    {
        "AccessDeniedException",
        "AccessDenied",
        "ExpiredToken",
        "ExpiredTokenException",
        "UnrecognizedClientException",
        "InvalidClientTokenId",
    }
)
"""No row can succeed after these: the evaluation stops at once instead of failing row by row."""


@dataclass(frozen=True)
class RetryPolicy:
    """How often and after which pause a request is repeated; pauses in seconds, with jitter."""

    attempts: int = 5
    base_s: float = 0.2
    cap_s: float = 5.0

    def pause(self, attempt: int) -> float:
        """The pause after failed attempt number `attempt` (from 1): half of it is random."""
        limit = min(self.cap_s, self.base_s * 2.0 ** (attempt - 1))
        return limit * (0.5 + random.random() / 2)  # noqa: S311 - nothing secret about it


@dataclass(frozen=True)
class Sent:
    """A finished request. `reply` is None when no attempt got an answer; `problem` says why.

    `begin_s` is the start of the first attempt and `end_s` the end of the last, on the sender's
    clock: what a client waited, pauses between attempts included.
    """

    reply: InvokeReply | None
    begin_s: float
    end_s: float
    retries: int
    problem: str = ""

    @property
    def latency_s(self) -> float:
        return self.end_s - self.begin_s

    @property
    def gave_up(self) -> bool:
        """Whether the endpoint was unable to answer, rather than unhappy with the request."""
        return self.reply is None or self.reply.status in RETRY_STATUSES


@dataclass
class Sender:
    """Sends bodies through `invoke` and repeats what may succeed later.

    `stop` ends pauses early and forbids further attempts, so that an interruption is quick.
    """

    invoke: Invoke
    content_type: str
    accept: str
    policy: RetryPolicy = field(default_factory=RetryPolicy)
    stop: threading.Event = field(default_factory=threading.Event)
    clock: Callable[[], float] = time.perf_counter

    def send(self, body: bytes) -> Sent:
        """The endpoint's final answer."""
        attempt, begin = 0, self.clock()
        while True:
            attempt += 1
            sent = self._try(body, begin, attempt)
            if not sent.gave_up or attempt >= self.policy.attempts or self.stop.is_set():
                return sent
            self.stop.wait(self.policy.pause(attempt))

    def _try(self, body: bytes, begin: float, attempt: int) -> Sent:
        try:
            reply = self.invoke(body, self.content_type, self.accept)
        except OSError as error:
            problem = f"no answer: {error or type(error).__name__}"
            return Sent(None, begin, self.clock(), attempt - 1, problem)
        return Sent(reply, begin, self.clock(), attempt - 1)


class InvokesEndpoints(Protocol):
    """The part of a session (boto3's sagemaker-runtime client, or a local one) needed here."""

    def invoke_endpoint(self, **request: Any) -> Any: ...


def session_invoker(session: InvokesEndpoints, endpoint_name: str, **extra: Any) -> Invoke:
    """An `Invoke` over `session.invoke_endpoint`, with its errors turned into statuses.

    Args:
        session: boto3's sagemaker-runtime client or one of our local sessions.
        endpoint_name: the endpoint to call.
        extra: further InvokeEndpoint parameters (TargetVariant, CustomAttributes, …).
    """

    def invoke(body: bytes, content_type: str, accept: str) -> InvokeReply:
        request = {
            "EndpointName": endpoint_name,
            "Body": body,
            "ContentType": content_type,
            "Accept": accept,
            **extra,
        }
        try:
            reply = session.invoke_endpoint(**request)
            return InvokeReply(200, reply["Body"].read(), reply.get("ContentType", ""))
        except (LaunchError, OSError):
            raise
        except Exception as error:
            return _reply_from_error(error)

    return invoke


def _reply_from_error(error: Exception) -> InvokeReply:
    """The status hidden in a botocore-shaped ClientError; connection faults become OSError."""
    response = getattr(error, "response", None)
    if not isinstance(response, dict) or "Error" not in response:
        if type(error).__module__.split(".")[0] in {"botocore", "urllib3", "httpx", "requests"}:
            raise ConnectionError(str(error)) from error
        raise error
    code = str(response["Error"].get("Code", ""))
    message = str(response.get("OriginalMessage") or response["Error"].get("Message", ""))
    if code in FATAL_CODES:
        raise LaunchError(
            f"the endpoint cannot be called: {code}: {message}",
            fix="renew the credentials, or allow sagemaker:InvokeEndpoint on this endpoint",
        ) from error
    # ModelError carries the container's own status; the call's is 424 then.
    status = response.get("OriginalStatusCode") or response.get("ResponseMetadata", {}).get(
        "HTTPStatusCode"
    )
    if code in THROTTLING_CODES:
        status = 429
    return InvokeReply(int(status or 500), message.encode())
