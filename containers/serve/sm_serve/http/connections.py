"""A bound on connections that ask for nothing: the one that has waited longest makes room.

Connections whose request is being answered are bounded by SM_SERVE_MAX_IN_FLIGHT. All others, those
that are idle, silent or slow to send, are kept here; a new one, which may be the platform's /ping,
always gets in.
"""

from __future__ import annotations

import logging
import time
from typing import Protocol

logger = logging.getLogger(__name__)

MOST = 4096
"""By default, where the limit of open files allows it."""
OTHER_FILES = 512
"""Of the process itself: libraries, child processes, weights."""
LOG_SECONDS = 60.0


class Connection(Protocol):
    """What can be asked to leave."""

    def leave(self) -> None:
        """Closes the connection, which asks for nothing."""


class Waiting:
    """The connections that wait, in the order in which they began to."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._since: dict[Connection, None] = {}
        self._closed = 0
        self._told = float("-inf")

    def add(self, connection: Connection) -> None:
        """It waits from now on; beyond the bound the one that has waited longest is closed."""
        self._since.pop(connection, None)
        self._since[connection] = None
        while len(self._since) > self._most:
            oldest = next(iter(self._since))
            del self._since[oldest]
            oldest.leave()
            self._tell()

    def remove(self, connection: Connection) -> None:
        """It is being answered, or gone."""
        self._since.pop(connection, None)

    def _tell(self) -> None:
        self._closed += 1
        if time.monotonic() - self._told > LOG_SECONDS:
            logger.warning(
                "over %d connections ask for nothing (SM_SERVE_MAX_CONNECTIONS): the oldest are"
                " closed, %d so far", self._most, self._closed,
            )  # fmt: skip
            self._told = time.monotonic()


def most_connections(wanted: int, in_flight: int) -> int:
    """The bound to use: what is wanted, else MOST, else half of what open files leave.

    Raises the process's own limit of open files to what the system allows.
    """
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard == resource.RLIM_INFINITY:
        return wanted or MOST
    room = max((hard - in_flight - OTHER_FILES) // 2, 1)
    if wanted > room:
        logger.warning("SM_SERVE_MAX_CONNECTIONS=%d is more than the limit of open files (%d)"
                       " allows: it is %d", wanted, hard, room)  # fmt: skip
    return min(wanted or MOST, room)
