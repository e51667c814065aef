"""A user's own script under the toolkit: arguments, SIGTERM, exit code and failure file."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.slow

HANDLER = """\
import os, signal, sys, time
def stop(*_):
    os.write(1, b"saved\\n")  # print may be interrupted by itself, which is an error
    sys.exit({code})
signal.signal(signal.SIGTERM, stop)
print("started", sys.argv[1:], flush=True)
time.sleep(60)
"""


@pytest.fixture
def scripted(new_job: Callable[..., Any]) -> Callable[[str], Any]:
    """A job that runs this text as mine.py, as SDK v2 asks for it."""

    def lay_out(text: str) -> Any:
        job = new_job({"sagemaker_program": "mine.py", "learning_rate": 0.1, "name": "it's"})
        code = job.path / "code"
        code.mkdir()
        (code / "mine.py").write_text(text)
        file = job.path / "input" / "config" / "hyperparameters.json"
        values = json.loads(file.read_text()) | {
            "sagemaker_submit_directory": json.dumps(str(code))
        }
        file.write_text(json.dumps(values))
        return job

    return lay_out


def stopped(job: Any) -> tuple[int, str]:
    """Exit code and log of a job that gets SIGTERM once its script has started."""
    process = job.start(SM_STUDIO_LOCAL_MODE="true")
    seen = []
    for line in process.stdout:
        seen.append(line)
        if line.startswith("started"):
            process.send_signal(signal.SIGTERM)
            break
    rest, _ = process.communicate(timeout=30)
    return process.returncode, "".join(seen) + rest


def test_arguments_and_sigterm_reach_it(scripted: Callable[[str], Any]) -> None:
    job = scripted(HANDLER.format(code=0))
    code, output = stopped(job)
    assert code == 0, output
    assert "saved" in output
    assert """started ['--learning_rate', '0.1', '--name', "it's"]""" in output
    assert job.failure == ""


def test_its_exit_code_is_the_job_s(scripted: Callable[[str], Any]) -> None:
    job = scripted(HANDLER.format(code=7))
    code, output = stopped(job)
    assert code == 7, output
    assert job.failure.startswith("the script wrote nothing to stderr (exit code 7 of ")


def test_without_a_handler_it_ends_as_stopped(scripted: Callable[[str], Any]) -> None:
    job = scripted("import time\nprint('started', flush=True)\ntime.sleep(60)\n")
    assert stopped(job)[0] == 143


def test_its_error_is_the_first_thing_in_the_failure_file(scripted: Callable[[str], Any]) -> None:
    job = scripted(
        "import sys\nsys.stderr.write('loading\\n')\nraise ValueError('no such column')\n"
    )
    code, output = job.train(SM_STUDIO_LOCAL_MODE="true")
    assert code == 1
    assert job.failure.startswith("ValueError: no such column (exit code 1 of ")
    assert "loading" in output
    assert len(job.failure) <= 1024
