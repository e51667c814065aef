"""The process that watches over one job or endpoint: `python -m …supervisor DIRECTORY LOCK_FD`.

It detaches from the command that started it, so that a job lives on when the terminal closes, and
it holds the record's lock for as long as it lives.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from sm_launch.sessions.process import children, store
from sm_launch.sessions.process.runs import Run, Termination


def _runner(kind: str) -> Callable[[store.Record, Termination], Run]:
    """What runs a record of this kind; imported late: each run loads no more than its own."""
    if kind == store.TRAINING_JOBS:
        from sm_launch.sessions.process.jobs.training_run import TrainingRun

        return TrainingRun
    if kind == store.ENDPOINTS:
        from sm_launch.sessions.process.hosting.endpoint_run import EndpointRun

        return EndpointRun
    if kind == store.TRANSFORM_JOBS:
        from sm_launch.sessions.process.hosting.transform_run import TransformRun

        return TransformRun
    if kind == store.TUNING_JOBS:
        from sm_launch.sessions.process.jobs.tuning_run import TuningRun

        return TuningRun
    raise ValueError(f"nothing runs {kind!r}")


def main(arguments: list[str]) -> None:
    """Detach and run what the record asks for."""
    record = store.Record(Path(arguments[0]))
    if os.fork() > 0:
        os._exit(0)
    os.setsid()
    children.start_watchdog(record.path)
    termination = Termination()
    try:
        _runner(record.path.parent.name)(record, termination).run()
    except BaseException:
        # Whoever reads the state next finds the lock free and marks the record as failed.
        traceback.print_exc()
        raise


if __name__ == "__main__":
    main(sys.argv[1:])
