"""The process session: everything that the parts do, under one name."""

from __future__ import annotations

from sm_launch.sessions.process.garbage import GarbageCollection


class ProcessSession(GarbageCollection):
    """SageMaker's client methods, run by `train` and `serve` processes on this machine.

    Args:
        home: where jobs, models and endpoints keep their state.
        settings: commands and time limits, where they are to differ from SageMaker's.
    """
