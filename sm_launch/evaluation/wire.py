"""The classification endpoint's wire format, as pure functions between texts and bodies."""

from __future__ import annotations

import json
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


def decode(body: bytes, expected: int) -> list[Answer]:
    """The answers in `body`, one for each of the `expected` inputs.

    Takes a list of score lists (what `top_k` asks for), and a list of single label objects, so
    that endpoints which ignore `top_k` can be evaluated too, without score metrics.

    Raises:
        WireError: not JSON, another shape, or another number of answers.
    """
    try:
        document = json.loads(body)
    except ValueError as error:
        raise WireError(f"the reply is not JSON: {excerpt(body)}") from error
    if not isinstance(document, list):
        raise WireError(f"the reply is not a JSON list: {excerpt(body)}")
    if expected == 1 and document and all(isinstance(item, dict) for item in document):
        document = [document]  # HF pipelines drop the outer list for one input
    if len(document) != expected:
        raise WireError(f"{expected} inputs were sent and {len(document)} answers came back")
    return [_answer(item) for item in document]


def error_message(reply: InvokeReply) -> str:
    """What an error reply says: our containers' `error.message`, else the start of the body."""
    try:
        document = json.loads(reply.body)
        message = document["error"]["message"]
    except (ValueError, KeyError, TypeError):
        message = excerpt(reply.body)
    return f"HTTP {reply.status}: {message}"


def _answer(item: Any) -> Answer:
    entries = [item] if isinstance(item, dict) else item
    try:
        scored = [(str(entry["label"]), entry.get("score")) for entry in entries]
        best = max(scored, key=lambda pair: float("-inf") if pair[1] is None else float(pair[1]))
        scores = {label: float(score) for label, score in scored if score is not None}
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise WireError(f"not a list of label and score: {str(item)[:120]}") from error
    return Answer(best[0], scores)


def excerpt(body: bytes) -> str:
    """The start of a body, for a message."""
    return body[:200].decode(errors="replace").strip() or "(empty body)"
