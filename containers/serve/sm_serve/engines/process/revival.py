"""Starts an engine again that has ended, after a longer wait each time that it does not last."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable

logger = logging.getLogger(__name__)

FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.5, 60.0
"""Before it is started again; each time that it ends, twice as long."""
LASTING_SECONDS = 120.0
"""What has lived so long has lasted."""


class Revival:
    """Why the engine does not answer (`lost`), and what brings it back.

    Args:
        what: the engine, in words for the log.
        again: starts it; what it raises is a failed attempt, and another follows.
    """

    def __init__(self, what: str, again: Callable[[], Awaitable[None]]) -> None:
        self.lost: str | None = None
        self._what = what
        self._again = again
        self._began = time.monotonic()
        self._deaths = 0
        self._closed = self._failed = False
        self._task: asyncio.Task[None] | None = None

    @property
    def mending(self) -> bool:
        """Whether it is being started again, and no attempt has failed."""
        return self.lost is not None and not self._failed

    def begin(self, lost: str) -> None:
        """It has ended. What calls this in an event loop makes it start again."""
        self.lost = lost
        if self._closed or (self._task is not None and not self._task.done()):
            return
        with contextlib.suppress(RuntimeError):  # no loop runs: whoever asks next has one
            asyncio.get_running_loop()
            self._task = asyncio.ensure_future(self._run())

    async def _run(self) -> None:
        logger.error("%s: starting it again", self.lost)
        if time.monotonic() - self._began > LASTING_SECONDS:
            self._deaths = 0
        while not self._closed:
            await asyncio.sleep(min(FIRST_WAIT_SECONDS * 2**self._deaths, LONGEST_WAIT_SECONDS))
            self._deaths += 1
            self._began = time.monotonic()
            try:
                await self._again()
            except Exception as error:  # whatever it is, the next attempt may go well
                self._failed = True
                logger.error("%s cannot be started again: %s", self._what, error)
            else:
                self.lost, self._failed = None, False
                logger.warning("%s answers again", self._what)
                return

    def close(self) -> None:
        """Nothing is started any more."""
        self._closed = True
