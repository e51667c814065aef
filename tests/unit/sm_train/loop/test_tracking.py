"""In which state a job's MLflow run ends: what happened to the job, whoever is left to tell."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sm_train.contract import Paths
from sm_train.loop import tracking
from sm_train.platform.stopping import StopRequest

_BEGINS = """
import mlflow, os, sys, time
mlflow.set_tracking_uri(os.environ["MLFLOW_TRACKING_URI"])
print(mlflow.start_run().info.run_id, flush=True)
time.sleep(60)
"""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "runs").as_uri())
    monkeypatch.setenv("TRAINING_JOB_NAME", "mine-1")
    return (tmp_path / "runs").as_uri()


@pytest.fixture
def killed(server: str) -> str:
    """A run that a process had begun which is no more."""
    with subprocess.Popen(
        [sys.executable, "-c", _BEGINS], stdout=subprocess.PIPE, text=True
    ) as job:
        assert job.stdout is not None
        run = job.stdout.readline().strip()
        job.send_signal(signal.SIGKILL)
    assert status(server, run) == "RUNNING"
    return run


def status(server: str, run: str) -> Any:
    from mlflow.tracking import MlflowClient

    return MlflowClient(server).get_run(run).info.status


def note(paths: Paths, server: str, run: str, job: str = "mine-1") -> None:
    paths.checkpoints.mkdir(parents=True, exist_ok=True)
    held = {"uri": server, "run": run, "job": job}
    (paths.checkpoints / tracking.NAME).write_text(json.dumps(held))


def test_the_run_of_a_killed_process_is_ended_by_the_one_that_is_left(
    paths: Paths, server: str, killed: str
) -> None:
    tracking.end_left_open(paths, "FAILED")  # nothing is noted
    note(paths, server, killed, job="another")
    tracking.end_left_open(paths, "FAILED")
    assert status(server, killed) == "RUNNING"
    note(paths, server, killed)
    tracking.end_left_open(paths, "FAILED")
    assert status(server, killed) == "FAILED"
    tracking.end_left_open(paths, "KILLED")  # it has ended before
    assert status(server, killed) == "FAILED"


def test_a_signal_that_ends_the_process_at_once_ends_the_run(
    paths: Paths, server: str, killed: str
) -> None:
    note(paths, server, killed)
    child = os.fork()
    if not child:  # as a job: it leaves by os._exit
        stop = StopRequest()
        stop.farewell = lambda: tracking.end_left_open(paths, "KILLED")
        stop.install()
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()
        os._exit(99)
    _, code = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(code) != 99
    assert status(server, killed) == "KILLED"


@pytest.mark.parametrize("lost", ["set_tags", "flush_async_logging"])
def test_a_run_ends_whose_last_metrics_were_not_taken(
    server: str, lost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    def fails(*_: object) -> None:
        raise mlflow.MlflowException("the server is starting")

    mlflow.set_tracking_uri(server)
    run = mlflow.start_run().info.run_id
    monkeypatch.setattr(mlflow, lost, fails)
    tracking._end("FINISHED", {"a": "b"})
    assert status(server, run) == "FINISHED"
    assert mlflow.active_run() is None


def test_the_end_is_told_to_a_server_that_comes_back(
    server: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import mlflow

    mlflow.set_tracking_uri(server)
    run = mlflow.start_run().info.run_id
    folder = Path(server.removeprefix("file://"))
    monkeypatch.setattr(tracking.time, "sleep", lambda _: folder.with_name("gone").rename(folder))
    folder.rename(folder.with_name("gone"))
    tracking._end("FAILED")
    assert status(server, run) == "FAILED"
    assert "FAILED" in capfd.readouterr().out
