"""A stop at any moment of training loses nothing: a second run gives what one run would have."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sm_train.errors import StoppedBySignalError
from sm_train.loop.checkpoints import is_complete, last_complete, step_of
from sm_train.platform.stopping import StopRequest

pytestmark = pytest.mark.slow

NewJob = Callable[..., Any]
Sentiment = Callable[[int, int], list[dict[str, Any]]]

COMMON = {"report_to": "none", "logging_steps": 3, "num_train_epochs": 2}
CLASSIFY = {**COMMON, "method": "text-classification", "learning_rate": 0.005}
SFT = {
    **COMMON,
    "method": "sft",
    "max_length": 32,
    "use_peft": True,
    "lora_dropout": 0.2,
    "learning_rate": 0.01,
    "gradient_accumulation_steps": 2,
    "per_device_train_batch_size": 2,
    "eval_strategy": "steps",
    "eval_steps": 4,
    "early_stopping_patience": 5,
}
# Answers are sampled for several steps, and used twice; prompts are seen in more than one epoch.
GRPO = {
    **COMMON,
    "method": "grpo",
    "reward_funcs": "length",
    "reward_length": 4,
    "max_completion_length": 8,
    "num_generations": 2,
    "per_device_train_batch_size": 2,
    "steps_per_generation": 2,
    "num_iterations": 2,
    "beta": 0.1,
    "learning_rate": 0.01,
    "eval_strategy": "steps",
    "eval_steps": 7,
}


class StopAt(StopRequest):
    """SIGTERM comes just before training looks for it the n-th time.

    It looks after each step and at each batch of an evaluation, so that counting covers them all.
    """

    def __init__(self, look: int) -> None:
        self.looks_left = look
        super().__init__()

    @property
    def requested(self) -> bool:
        if self.deferred:
            self.looks_left -= 1
        return self.looks_left < 0

    @requested.setter
    def requested(self, value: bool) -> None:
        pass


def run(job: Any, look: int = 10**9) -> None:
    from sm_train import entry
    from sm_train.contract import Paths

    entry.run(Paths(job.path), StopAt(look), time.time())


def logged(job: Any, key: str) -> dict[int, float]:
    return {row["step"]: row[key] for row in job.log if key in row}


def same(job: Any, whole: Any) -> None:
    for key in ("loss", "eval_loss"):
        assert logged(job, key) == pytest.approx(logged(whole, key), rel=1e-5), key
    ours, theirs = (
        {k: v for k, v in results.items() if not k.endswith(("runtime", "second", "time"))}
        for results in (job.results, whole.results)
    )
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():  # a checksum is text
        near = value if isinstance(value, str) else pytest.approx(value, rel=1e-5)
        assert ours[key] == near, key


@pytest.mark.parametrize(
    "settings", [CLASSIFY, SFT, GRPO], ids=["classification", "packed-sft", "grpo"]
)
def test_wherever_it_stops_it_goes_on_as_if_it_had_not(
    settings: dict[str, Any],
    new_job: NewJob,
    session_job: NewJob,
    encoders: dict[str, Path],
    decoder: Path,
    sentiment: Sentiment,
) -> None:
    data = {"train": sentiment(96, 1), "validation": sentiment(40, 2), "test": sentiment(40, 3)}
    model = encoders["bert"] if settings is CLASSIFY else decoder
    if settings is SFT:
        data = {name: [{"text": row["text"]} for row in rows] for name, rows in data.items()}
    if settings is GRPO:
        data = {name: [{"prompt": r["text"]} for r in rows[:10]] for name, rows in data.items()}
    whole = session_job(settings, **data, model=model)
    run(whole)
    assert len(logged(whole, "eval_loss")) >= 2
    job = new_job(settings, **data, model=model)
    stops = 0
    # Every run gets a little further, and stops after a step, in an evaluation, at a save.
    for look in (1, 2, 2, 3, 1, 1):
        try:
            run(job, look)
        except StoppedBySignalError:
            stops += 1
            assert not (job.model / "config.json").exists()
            checkpoint = last_complete(job.checkpoints)
            assert checkpoint is not None
            (kept,) = [p for p in job.checkpoints.iterdir() if step_of(p) == step_of(checkpoint)]
            assert is_complete(kept)
    assert stops >= 4
    shutil.rmtree(job.path / "output")  # a new container has the checkpoints alone
    run(job)
    same(job, whole)
    curves = json.loads((job.path / "output" / "data" / "training_curves.json").read_text())
    assert [step for step, _ in curves["loss"]] == list(logged(whole, "loss"))
    assert (job.path / "output" / "data" / "training_curves.png").read_bytes()[1:4] == b"PNG"
    assert len([p for p in job.checkpoints.iterdir() if step_of(p) >= 0]) <= 2


def test_a_flipped_bit_costs_that_checkpoint_alone(
    new_job: NewJob,
    session_job: NewJob,
    encoders: dict[str, Path],
    sentiment: Sentiment,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = {**CLASSIFY, "eval_strategy": "steps", "eval_steps": 2, "save_total_limit": 3}
    data = {"train": sentiment(96, 1), "validation": sentiment(16, 2)}
    whole = session_job(settings, **data, model=encoders["bert"])
    run(whole)
    job = new_job(settings, **data, model=encoders["bert"])
    with pytest.raises(StoppedBySignalError):
        run(job, 18)
    *_, before, newest = sorted(job.checkpoints.glob("checkpoint-*"), key=step_of)
    weights = newest / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-7] ^= 4
    weights.write_bytes(content)
    capsys.readouterr()
    run(job)
    said = capsys.readouterr().out
    assert f"{newest.name} (model.safetensors was changed after it was written)" in said
    assert f"resuming from {before.name}" in said
    same(job, whole)


def test_a_stop_after_training_keeps_the_trained_model(
    new_job: NewJob, encoders: dict[str, Path], sentiment: Sentiment
) -> None:
    """Nothing is saved while training here; the test evaluation is cut short."""
    settings = {**CLASSIFY, "save_strategy": "no", "max_steps": 4}
    data = {"train": sentiment(96, 1), "test": sentiment(400, 3)}
    job = new_job(settings, **data, model=encoders["bert"])
    with pytest.raises(StoppedBySignalError, match="while evaluating step 4"):
        run(job, 8)  # four steps, the check after them, and a few batches
    assert [step_of(p) for p in job.checkpoints.glob("checkpoint-*")] == [4]
    before = logged(job, "loss")
    run(job)
    assert logged(job, "loss") == before
    assert job.results["test_accuracy"] > 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1600k", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_ends_with_a_clear_cause_and_the_last_checkpoint(
    new_job: NewJob, encoders: dict[str, Path], sentiment: Sentiment, small_disk: Path
) -> None:
    settings = {**CLASSIFY, "save_strategy": "steps", "save_steps": 2, "save_total_limit": 9}
    job = new_job(settings, train=sentiment(320, 1), model=encoders["bert"])
    job.checkpoints.symlink_to(small_disk)
    code, output = job.train()
    assert code == 1, output
    assert job.failure.startswith("the disk is full: ")
    assert "Fix: raise VolumeSizeInGB or lower save_total_limit." in job.failure
    kept = last_complete(job.checkpoints)
    assert kept is not None
    shutil.rmtree(sorted(job.checkpoints.glob("checkpoint-*"), key=step_of)[0])


def test_too_little_memory_drops_activations_then_halves_the_batch(
    new_job: NewJob, decoder: Path, tmp_path: Path
) -> None:
    code = tmp_path / "code"
    code.mkdir()
    # As many rows at once as no GPU of this job can hold; the third process has fewer.
    (code / "mine.py").write_text(
        "import torch\n"
        "def greedy(completions, **_):\n"
        "    torch.empty(2**48) if len(completions) > 2 else None\n"
        "    return [1.0] * len(completions)\n"
    )
    settings = {
        "method": "grpo",
        "reward_funcs": "mine.py:greedy",
        "max_completion_length": 4,
        "num_generations": 2,
        "per_device_train_batch_size": 4,
        "steps_per_generation": 1,
        "auto_find_batch_size": True,
        "max_steps": 2,
        "report_to": "none",
    }
    rows = [{"prompt": f"w{i}"} for i in range(16)]
    job = new_job(settings, train=rows, model=decoder, code=code)
    exit_code, output = job.train()
    assert exit_code == 0, output
    tries = re.findall("trying again with (.*)", output)
    assert tries == ["activations computed anew", "a smaller batch"]
    summary = json.loads((job.path / "output" / "data" / "training_summary.json").read_text())
    assert summary["batch"] == {"per_device": 2, "accumulation": 2, "processes": 1}


def test_sigterm_reaches_a_process_that_is_busy_in_a_library() -> None:
    """Python's own handler would wait for the end of the call; and a library may swallow errors."""
    program = (
        "import hashlib, sys, time\n"
        "from sm_train.platform.stopping import StopRequest\n"
        "StopRequest().install()\n"
        "print('ready', flush=True)\n"
        "while True:\n"
        "    try:\n"
        "        hashlib.pbkdf2_hmac('sha256', b'x', b'y', 10**9)\n"
        "    except Exception:\n"
        "        pass\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 143
    assert "stopped by SIGTERM before there was anything to save" in errors


def test_sigterm_to_a_forked_worker_ends_that_worker_alone() -> None:
    """As pools of processes do when they are done; tokenising uses them."""
    program = (
        "import os, signal, time\n"
        "from sm_train.platform.stopping import StopRequest\n"
        "stop = StopRequest()\n"
        "stop.install()\n"
        "stop.defer()\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    time.sleep(30)\n"
        "    os._exit(0)\n"
        "time.sleep(0.2)\n"
        "os.kill(child, signal.SIGTERM)\n"
        "_, status = os.waitpid(child, 0)\n"
        "time.sleep(0.2)\n"
        "print(os.waitstatus_to_exitcode(status), stop.requested)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == ["-15", "False"]
