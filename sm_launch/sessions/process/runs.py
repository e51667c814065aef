"""What every supervised run shares: status transitions, limits, how often it looks around."""

from __future__ import annotations

import time
from typing import Any, Protocol

from sm_launch.redaction import redact

FAILURE_REASON_LENGTH = 1024
"""DescribeTrainingJob and DescribeEndpoint: FailureReason, in characters."""

POLL_SECONDS = 0.1


class Termination(Protocol):
    """Tells whether the supervisor was asked to end."""

    requested: bool


def shorten(reason: str) -> str:
    """`reason` within FailureReason's length, its beginning kept: the cause comes first.

    It is written down and shown: no secret of the container's words stays in it.
    """
    return redact(reason).strip()[:FAILURE_REASON_LENGTH]


def transition(transitions: list[dict[str, Any]], status: str, message: str) -> None:
    """End the last transition and begin the next, as SecondaryStatusTransitions shows them."""
    now = time.time()
    if transitions:
        transitions[-1].setdefault("EndTime", now)
    transitions.append({"Status": status, "StartTime": now, "StatusMessage": message})
