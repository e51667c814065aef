"""The container's processes: started, stopped, and never left behind.

A container's processes all die with it. Here the same is done in two ways: whoever ends a run also
kills every process that still bears the run's SAGEMAKER_BASE_DIR in its environment (torchrun's
workers start sessions of their own, a process group would miss them), and a watchdog does that
when the supervisor itself is killed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

BASE_DIR_VARIABLE = "SAGEMAKER_BASE_DIR"
_PROC = Path("/proc")


class Child:
    """One process with its own session, its output appended to a log file."""

    def __init__(
        self, command: list[str], *, env: Mapping[str, str], cwd: Path, log_path: Path
    ) -> None:
        with log_path.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                env=dict(env),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._base = Path(env[BASE_DIR_VARIABLE])

    def exit_code(self) -> int | None:
        """The exit status as a shell shows it (128 + signal), None while the process runs."""
        code = self._process.poll()
        return 128 - code if code is not None and code < 0 else code

    def stop(self, grace: float) -> int:
        """SIGTERM to the first process, as Docker does; after `grace` seconds SIGKILL to all."""
        if self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(grace)
        self.kill()
        code = self.exit_code()
        assert code is not None, "a killed process has an exit code"
        return code

    def kill(self) -> None:
        """End everything that the process left, itself included."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        kill_processes_below(self._base)
        self._process.wait()


def kill_processes_below(root: Path) -> None:
    """SIGKILL every process whose SAGEMAKER_BASE_DIR is `root` or below it.

    Needs /proc; without it (macOS) the process groups must do.
    """
    for _ in range(20):  # a process may fork while we look: look again until there is none
        processes = processes_below(root)
        if not processes:
            return
        for pid in processes:
            try:
                os.kill(pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                continue
        time.sleep(0.02)


def processes_below(root: Path) -> list[int]:
    """The processes whose SAGEMAKER_BASE_DIR is `root` or below it."""
    if not _PROC.is_dir():
        return []
    exact = f"{BASE_DIR_VARIABLE}={root}".encode()
    below = exact + b"/"
    processes = []
    for entry in _PROC.iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            variables = (entry / "environ").read_bytes().split(b"\0")
        except OSError:  # gone, or somebody else's
            continue
        if any(variable == exact or variable.startswith(below) for variable in variables):
            processes.append(int(entry.name))
    return processes


def start_watchdog(root: Path) -> None:
    """Fork a process that outlives this one just long enough to kill what it leaves behind.

    It waits on a pipe whose other end only this process holds: when this process ends, however it
    ends, the pipe closes. Call it before any thread is started.
    """
    reader, writer = os.pipe()  # neither is inherited by programs that are started later
    if os.fork() == 0:
        os.close(writer)
        _watch(reader, root)
    os.close(reader)


def _watch(reader: int, root: Path) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        while os.read(reader, 1):
            pass
        kill_processes_below(root)
    finally:
        sys.stdout.flush()
        os._exit(0)
