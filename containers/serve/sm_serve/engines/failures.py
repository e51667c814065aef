"""Whose fault a failure is: one request's, the engine's, or the device's.

A request that fails is answered with 500, and `/ping` stays 200. An engine that answers nothing any
more must say so, or it would go on for ever with 500.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from sm_serve.engines.turns import OWNER
from sm_serve.errors import DeviceError, EngineError

logger = logging.getLogger(__name__)

MAX_CONSECUTIVE_FAILURES = 3
TRIAL_SECONDS = 1.0
"""Between two trials of an engine that has failed one."""
_DEVICE_WORDS = ("CUDA error: ", "HIP error: ", "CUBLAS_STATUS_EXECUTION_FAILED",
                 "CUDNN_STATUS_EXECUTION_FAILED")  # fmt: skip
_SURVIVED = ("out of memory", "invalid argument", "invalid configuration argument",
             "too many resources requested")  # fmt: skip
"""CUDA's errors after which the context can be used as before; all others stay."""


def lost_device(error: BaseException) -> bool:
    """Whether the GPU answers nothing in this process any more: a kernel's assertion, an illegal
    memory access, hardware. Such an error is told again by every later call.

    torch.AcceleratorError is known by name, as torch is not imported here; older versions and
    libraries tell it by a plain RuntimeError.
    """
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, DeviceError):
            return True
        kinds = {kind.__name__ for kind in type(link).__mro__}
        text = str(link)
        told = "AcceleratorError" in kinds or (
            isinstance(link, RuntimeError) and any(phrase in text for phrase in _DEVICE_WORDS)
        )
        if told and not any(phrase in text for phrase in _SURVIVED):
            return True
        link = link.__cause__ or link.__context__
    return False


def engine_failure(error: BaseException, what: str) -> EngineError:
    """What a client is told: `what` failed, by which kind of error. The log has the rest."""
    if isinstance(error, EngineError):
        return error
    kind = DeviceError if lost_device(error) else EngineError
    return kind(f"{what} ({type(error).__name__})")


class Checkup:
    """Whether an engine answers at all. `reason` says why not, or is None.

    A lost device is the end. After several failures in a row the engine is asked by ourselves: what
    clients send cannot make that fail. While it does, it is asked again each second.

    Args:
        ask: a small request of our own; raises where it is not answered.
    """

    def __init__(self, ask: Callable[[], Awaitable[None]]) -> None:
        self.reason: str | None = None
        self._ask = ask
        self._failures = 0
        self._lost = False
        self._trial: asyncio.Task[None] | None = None

    def succeeded(self) -> None:
        """A request was answered."""
        self._failures = 0
        if not self._lost:
            self.reason = None

    def failed(self, error: BaseException) -> None:
        """A request was not answered, and the client is not to blame for certain."""
        if lost_device(error):
            self._lost = True
            self.reason = f"the device has failed ({type(error).__name__})"
            return
        self._failures += 1
        running = self._trial is not None and not self._trial.done()
        if self._failures >= MAX_CONSECUTIVE_FAILURES and not running:
            self._trial = asyncio.ensure_future(self._try())

    async def _try(self) -> None:
        OWNER.set(0)  # not of the request that failed last
        while not self._lost:
            try:
                await self._ask()
            except Exception as error:
                if self.reason is None:
                    logger.error("the engine answers nothing any more", exc_info=error)
                self.reason = (
                    f"{self._failures} requests failed in a row, and so did one of the server's own"
                    f" ({type(error).__name__})"
                )
                if lost_device(error):
                    self.failed(error)
            else:
                self.succeeded()
                return
            await asyncio.sleep(TRIAL_SECONDS)
