"""Whether requests will be answered: the truth behind /ping."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum


class Phase(StrEnum):
    """The life of the server."""

    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"
    FAILED = "failed"


class Health:
    """The phase, and in READY what the engine itself says (its watchdog)."""

    def __init__(self) -> None:
        self.phase = Phase.LOADING
        self._reason: str | None = None
        self._doing = "the model is loading"
        self._probe: Callable[[], str | None] = lambda: None

    @property
    def draining(self) -> bool:
        """Whether the server was asked to stop."""
        return self.phase is Phase.DRAINING

    def tell(self, doing: str) -> None:
        """What is being done while the model loads, in words."""
        self._doing = doing

    def ready(self, probe: Callable[[], str | None]) -> None:
        """Loading ended well; `probe` tells from now on why the engine is broken, or None."""
        if self.phase is Phase.LOADING:
            self._probe = probe
            self.phase = Phase.READY

    def fail(self, reason: str) -> None:
        """Nothing will be answered any more."""
        self.phase, self._reason = Phase.FAILED, reason

    def drain(self) -> None:
        """What is in flight ends, nothing new begins."""
        self.phase = Phase.DRAINING

    def problem(self) -> str | None:
        """None when requests will be answered, else the reason in words."""
        if self.phase is Phase.READY:
            return self._probe()
        if self.phase is Phase.LOADING:
            return self._doing
        if self.phase is Phase.DRAINING:
            return "the server is stopping"
        return self._reason or "the server has failed"
