"""What every supervised run shares: status transitions, limits, how often it looks around."""

from __future__ import annotations

import signal
import time
from types import FrameType
from typing import Any, Protocol

from sm_launch.redaction import redact

FAILURE_REASON_LENGTH = 1024
"""DescribeTrainingJob and DescribeEndpoint: FailureReason, in characters."""

POLL_SECONDS = 0.1


class Termination:
    """Whether this process was told to end (a shutdown of the machine, a `kill`)."""

    def __init__(self) -> None:
        self.requested = False
        signal.signal(signal.SIGTERM, self._request)

    def _request(self, signum: int, frame: FrameType | None) -> None:
        self.requested = True


class Run(Protocol):
    """What a supervisor does."""

    def run(self) -> None:
        """To the end; what happens is written to the record's state."""


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
