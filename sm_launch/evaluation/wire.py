"""What goes over the wire to an endpoint and comes back, as pure functions."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any, Protocol

JSON = "application/json"

MAX_PAYLOAD_BYTES = 6_291_456
"""Largest body that a real-time endpoint takes (SageMaker InvokeEndpoint: 6 MB)."""


@dataclass(frozen=True)
class InvokeReply:
    """One answer of the endpoint: HTTP status, body, and the body's content type."""

    status: int
    body: bytes
    content_type: str = JSON


class Invoke(Protocol):
    """Sends one request to the endpoint. Must be safe to call from several threads.

    Raises OSError (ConnectionError, TimeoutError) when no answer came: that is tried again.
    """

    def __call__(self, body: bytes, content_type: str, accept: str) -> InvokeReply: ...


@dataclass(frozen=True)
class Answer:
    """The label chosen for one input, and the score of every label the endpoint named."""

    label: str
    scores: dict[str, float]


class WireError(ValueError):
    """The endpoint answered 200 with a body that is not the format agreed on."""


def error_message(reply: InvokeReply) -> str:
    """What an error reply says: our containers' `error.message`, else the start of the body."""
    try:
        document = json.loads(reply.body)
        message = document["error"]["message"]
    except (ValueError, KeyError, TypeError):
        message = excerpt(reply.body)
    return f"HTTP {reply.status}: {message}"


def read_scores(item: Any) -> Answer:
    """The answer to one text: a list of label and score, or one label alone.

    Raises:
        WireError: another shape, or a score that is no number.
    """
    entries = [item] if isinstance(item, dict) else item
    try:
        scored = [(str(entry["label"]), _number(entry.get("score"))) for entry in entries]
        best = max(scored, key=lambda pair: float("-inf") if pair[1] is None else pair[1])
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise WireError(f"not a list of label and score: {str(item)[:120]}") from error
    return Answer(best[0], {label: score for label, score in scored if score is not None})


def _number(value: Any) -> float | None:
    if value is None:
        return None
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(value)
    return number


def excerpt(body: bytes) -> str:
    """The start of a body, for a message."""
    return body[:200].decode(errors="replace").strip() or "(empty body)"
