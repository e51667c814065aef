"""Starts the process that watches over a job or endpoint and outlives the command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from sm_launch.errors import LaunchError
from sm_launch.sessions.process import store

_SUPERVISOR = "sm_launch.sessions.process.supervisor"


def start(record: store.Record, lock: int) -> None:
    """Start the supervisor of a new record and hand it the lock.

    Returns once it has detached; `lock` is closed here.

    Raises:
        LaunchError: the supervisor did not start.
    """
    source = str(Path(__file__).resolve().parents[3])
    try:
        with (record.path / "supervisor.log").open("ab") as log:
            finished = subprocess.run(
                [sys.executable, "-m", _SUPERVISOR, str(record.path), str(lock)],
                env={**os.environ, "PYTHONPATH": source},
                cwd=record.path,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=[lock],
                start_new_session=True,
                check=False,
            )
    finally:
        os.close(lock)
    if finished.returncode != 0:
        raise LaunchError(
            f"the process that watches over {record.name} did not start",
            value=finished.returncode,
            fix=f"see {record.path / 'supervisor.log'}",
        )
