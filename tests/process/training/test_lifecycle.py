"""A job from start to end under the real `train`: logs, stop, resume, failures, processes."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sm_train.loop.checkpoints import is_complete, last_complete
from sm_train.platform.stopping import children
from sm_train.results.metrics import METRIC_DEFINITIONS

pytestmark = pytest.mark.slow

Sentiment = Callable[[int, int], list[dict[str, Any]]]
NewJob = Callable[..., Any]
SETTINGS = {
    "method": "text-classification",
    "learning_rate": 0.005,
    "num_train_epochs": 4,
    "logging_steps": 1,
    "report_to": "none",
}


def splits(sentiment: Sentiment) -> dict[str, Any]:
    return {
        "train": sentiment(320, 1),
        "validation": sentiment(40, 2),
        "test": sentiment(40, 3),
    }


@pytest.fixture(scope="session")
def finished(
    session_job: NewJob, encoders: dict[str, Path], sentiment: Sentiment
) -> tuple[Any, int, str]:
    """One uninterrupted run that several tests look at."""
    job = session_job(SETTINGS, **splits(sentiment), model=encoders["bert"])
    code, output = job.train()
    return job, code, output


def test_a_job_leaves_a_model_that_has_learnt(finished: tuple[Any, int, str]) -> None:
    job, code, output = finished
    assert code == 0, output
    assert job.failure == ""
    assert job.results["test_accuracy"] > 0.95
    assert job.results["test_f1_macro"] > 0.95
    config = json.loads((job.model / "config.json").read_text())
    assert config["id2label"] == {"0": "neg", "1": "pos"}
    assert "test_accuracy" in (job.model / "README.md").read_text()


def test_the_last_weights_are_kept_where_what_is_saved_is_not_evaluated(
    new_job: NewJob,
    encoders: dict[str, Path],
    sentiment: Sentiment,
    capfd: pytest.CaptureFixture[str],
) -> None:
    own = {"num_train_epochs": 1, "eval_strategy": "no", "save_strategy": "steps", "save_steps": 8}
    job = new_job(SETTINGS | own, **splits(sentiment), model=encoders["bert"])
    job.train_here()
    assert "the last ones, not the best: save_strategy is steps" in capfd.readouterr().out


def test_metric_definitions_match_the_real_log(finished: tuple[Any, int, str]) -> None:
    job, _, output = finished
    matches = {d["Name"]: re.findall(d["Regex"], output, re.MULTILINE) for d in METRIC_DEFINITIONS}
    losses = [float(value) for value in matches["train:loss"]]
    assert losses == pytest.approx(list(job.losses.values()), rel=1e-4)
    assert float(matches["test:accuracy"][-1]) == pytest.approx(job.results["test_accuracy"])
    for name in ("train:learning_rate", "train:samples_per_second", "eval:loss", "eval:f1"):
        assert matches[name]


def tracked_in(folder: Path) -> dict[str, str]:
    return {
        "MLFLOW_TRACKING_URI": folder.as_uri(),
        "MLFLOW_EXPERIMENT_NAME": "mine",
        "MLFLOW_TAGS": '{"team": "nlp"}',
        "TRAINING_JOB_NAME": "mine-1",
        "SM_TRAIN_MODEL_URI": "s3://b/jobs/{training_job}/output/model.tar.gz",
    }


def one_run_has_it_all(job: Any, output: str, variables: dict[str, str]) -> None:
    """Both parts of the job are one run of MLflow, with what the log says."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(variables["MLFLOW_TRACKING_URI"])
    experiment = client.get_experiment_by_name("mine")
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.status, run.info.run_name) == ("FINISHED", "mine-1")
    assert f"mlflow run: {run.info.run_id}" in output
    losses = {p.step: p.value for p in client.get_metric_history(run.info.run_id, "loss")}
    assert losses == pytest.approx(job.losses)
    assert {"eval_f1", "samples_per_second"} < run.data.metrics.keys()
    assert run.data.metrics["test_accuracy"] == pytest.approx(job.results["test_accuracy"])
    assert float(run.data.params["learning_rate"]) == SETTINGS["learning_rate"]
    place = "s3://b/jobs/mine-1/output/model.tar.gz"
    expected = {"training_job": "mine-1", "method": "text-classification",
                "model_artifacts": place, "team": "nlp"}  # fmt: skip
    assert expected.items() <= run.data.tags.items()


def test_sigterm_leaves_a_checkpoint_and_a_rerun_the_same_losses(
    new_job: NewJob,
    encoders: dict[str, Path],
    sentiment: Sentiment,
    finished: tuple[Any, int, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = finished[0]
    settings = {**SETTINGS, "report_to": "mlflow"}
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    job = new_job(settings, **splits(sentiment), model=encoders["bert"])
    variables = tracked_in(job.path.parent / "runs")
    process = job.start(**variables)
    for line in process.stdout:
        if line.startswith("step=14 "):
            process.send_signal(signal.SIGTERM)
            break
    begun = time.monotonic()
    process.communicate(timeout=60)
    assert time.monotonic() - begun < 30
    assert process.returncode == 143
    steps = [int(p.name.split("-")[1]) for p in job.checkpoints.glob("checkpoint-*")]
    assert 14 <= max(steps) < 60
    # A kill in the middle of a save leaves this behind.
    partial = job.checkpoints / "checkpoint-79"
    partial.mkdir()
    (partial / "model.safetensors").write_bytes(b"\x10")
    code, output = job.train(**variables)
    assert code == 0, output
    assert "ignored partial checkpoints: checkpoint-79" in output
    one_run_has_it_all(job, output, variables)
    assert f"resuming from checkpoint-{max(steps)}" in output
    assert job.losses.keys() == whole.losses.keys()
    for step, loss in job.losses.items():
        assert loss == pytest.approx(whole.losses[step], rel=1e-3), f"step {step}"


def test_a_kill_while_a_checkpoint_is_written_costs_that_checkpoint_alone(
    new_job: NewJob,
    encoders: dict[str, Path],
    sentiment: Sentiment,
    finished: tuple[Any, int, str],
) -> None:
    job = new_job(SETTINGS, **splits(sentiment), model=encoders["bert"])
    process = job.start(stdout=subprocess.DEVNULL)
    second = job.checkpoints / "checkpoint-40"
    while process.poll() is None and not second.exists():
        time.sleep(0.0005)
    process.kill()
    process.wait()
    assert second.is_dir()
    assert not is_complete(second), "too late: it was whole before the kill"
    assert is_complete(job.checkpoints / "checkpoint-20")
    code, output = job.train()
    assert code == 0, output
    assert "ignored partial checkpoints: checkpoint-40" in output
    assert "resuming from checkpoint-20" in output
    assert job.losses == pytest.approx(finished[0].losses, rel=1e-3)


def test_sigterm_while_starting_ends_at_once(
    new_job: NewJob, encoders: dict[str, Path], sentiment: Sentiment
) -> None:
    job = new_job(SETTINGS, **splits(sentiment), model=encoders["bert"])
    process = job.start()
    for line in process.stdout:
        if line.startswith("channel train"):
            break
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == 143


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"learning_rat": 1}, "learning_rat = '1': is not a hyperparameter; did you mean"),
        ({"num_labels": 3}, "num_labels = 3: the data has 2 classes: neg, pos"),
        ({"model_name_or_path": "/nowhere"}, "model_name_or_path = '/nowhere': no such directory"),
    ],
)
def test_a_wrong_input_is_the_first_thing_in_the_failure_file(
    new_job: NewJob,
    encoders: dict[str, Path],
    sentiment: Sentiment,
    settings: dict[str, Any],
    reason: str,
) -> None:
    job = new_job({**SETTINGS, **settings}, **splits(sentiment), model=encoders["bert"])
    job.model.mkdir()
    (job.model / "config.json").write_text("earlier")
    code, output = job.train()
    assert code == 1
    assert job.failure.startswith(reason)
    assert len(job.failure) <= 1024
    assert "Traceback" not in output
    assert (job.model / "config.json").read_text() == "earlier"


def test_a_diverging_loss_ends_the_job(
    new_job: NewJob, encoders: dict[str, Path], sentiment: Sentiment
) -> None:
    from sm_train.errors import UserError

    settings = {**SETTINGS, "learning_rate": 1e30, "logging_steps": 1, "max_grad_norm": 0}
    job = new_job(settings, **splits(sentiment), model=encoders["bert"])
    with pytest.raises(UserError, match="training diverged at step"):
        job.train_here()


def test_weights_that_broke_are_never_saved_and_the_job_resumes_from_before(
    new_job: NewJob, decoder: Path, tmp_path: Path
) -> None:
    """Nothing is logged in between: the look before the save has to notice."""
    code = tmp_path / "code"
    code.mkdir()
    # What too high a learning rate does, at a step that the test can choose.
    broken = (
        "import gc, torch\n"
        "calls = 0\n"
        "def reward(completions, **_):\n"
        "    global calls\n"
        "    calls += 1\n"
        "    if calls == 5:\n"
        "        for layer in gc.get_objects():\n"
        "            if type(layer) is torch.nn.Linear:\n"
        "                layer.weight.data.fill_(float('nan'))\n"
        "    return [float(i) for i in range(len(completions))]\n"
    )
    (code / "mine.py").write_text(broken)
    settings = {
        "method": "grpo",
        "reward_funcs": "mine.py:reward",
        "max_completion_length": 4,
        "num_generations": 2,
        "per_device_train_batch_size": 2,
        "max_steps": 8,
        "save_strategy": "steps",
        "save_steps": 1,
        "logging_steps": 100,
        "logging_first_step": False,
        "report_to": "none",
    }
    rows = [{"prompt": f"w{i}"} for i in range(16)]
    job = new_job(settings, train=rows, model=decoder, code=code)
    exit_code, output = job.train()
    assert exit_code == 1, output
    assert job.failure.startswith("learning_rate = ")
    assert "training diverged by step 5" in job.failure
    kept = sorted(p.name for p in job.checkpoints.glob("checkpoint-*"))
    assert kept == ["checkpoint-3", "checkpoint-4"]
    assert not (job.model / "config.json").exists()
    (code / "mine.py").write_text(broken.replace("calls == 5", "calls < 0"))
    exit_code, output = job.train()
    assert exit_code == 0, output
    assert "resuming from checkpoint-4" in output


def test_two_processes_give_what_one_gives(
    new_job: NewJob,
    encoders: dict[str, Path],
    sentiment: Sentiment,
    session_job: NewJob,
) -> None:
    def losses(make: NewJob, processes: int, batch: int) -> dict[int, float]:
        settings = {
            **SETTINGS,
            "max_steps": 6,
            "per_device_train_batch_size": batch,
            "num_processes": processes,
            "train_sampling_strategy": "sequential",
            "attn_implementation": "eager",
            "learning_rate": 0.0003,
            "logging_steps": 1,
            "bf16": False,  # it rounds the sums of 8 rows and of 16 differently
            # Each process draws its own dropout, so none is drawn.
            "model_init_kwargs": {"hidden_dropout_prob": 0, "attention_probs_dropout_prob": 0},
        }
        job = make(settings, train=sentiment(160, 1), model=encoders["bert"])
        code, output = job.train()
        assert code == 0, output
        return job.losses

    one, two = losses(session_job, 1, 16), losses(new_job, 2, 8)
    assert one.keys() == two.keys()
    assert all(math.isclose(one[step], two[step], rel_tol=1e-3) for step in one), (one, two)


def test_sigterm_ends_two_processes_with_the_same_step(
    new_job: NewJob, encoders: dict[str, Path], sentiment: Sentiment
) -> None:
    settings = {**SETTINGS, "num_processes": 2, "num_train_epochs": 200, "logging_steps": 1}
    job = new_job(settings, train=sentiment(160, 1), model=encoders["bert"])
    process = job.start()
    for line in process.stdout:
        if line.startswith("step=14 "):
            process.send_signal(signal.SIGTERM)
            break
    rest, _ = process.communicate(timeout=60)
    assert process.returncode == 143, rest
    assert last_complete(job.checkpoints) is not None


@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_rank_fails_the_run_of_mlflow(
    new_job: NewJob,
    encoders: dict[str, Path],
    sentiment: Sentiment,
    monkeypatch: pytest.MonkeyPatch,
    killed: int,
) -> None:
    from mlflow.tracking import MlflowClient

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    settings = {**SETTINGS, "num_processes": 2, "num_train_epochs": 200, "report_to": "mlflow"}
    job = new_job(settings, train=sentiment(160, 1), model=encoders["bert"])
    variables = tracked_in(job.path.parent / "runs")
    process = job.start(**variables)
    for line in process.stdout:
        if line.startswith("step=14 "):
            os.kill(ranks(process.pid)[killed], signal.SIGKILL)  # as the kernel does for memory
            break
    rest, _ = process.communicate(timeout=60)
    assert process.returncode == 1, rest
    client = MlflowClient(variables["MLFLOW_TRACKING_URI"])
    (run,) = client.search_runs([client.get_experiment_by_name("mine").experiment_id])
    assert run.info.status == "FAILED"


def ranks(launcher: int) -> list[int]:
    """The worker processes of torchrun, in the order of their ranks."""
    below = list(children(launcher))
    for process in below:
        below += children(process)
    told = {
        process: Path(f"/proc/{process}/environ").read_bytes().split(b"\0") for process in below
    }
    of_rank = {v: process for process, held in told.items() for v in held if v.startswith(b"RANK=")}
    return [of_rank[f"RANK={number}".encode()] for number in range(2)]


def test_a_failing_rank_ends_all_with_its_own_cause(
    new_job: NewJob, decoder: Path, tmp_path: Path
) -> None:
    code = tmp_path / "code"
    code.mkdir()
    (code / "mine.py").write_text(
        "import os\n"
        "def broken(completions, **_):\n"
        "    if os.environ['RANK'] == '1':\n"
        "        raise RuntimeError('rank one gave up')\n"
        "    return [1.0] * len(completions)\n"
    )
    settings = {
        "method": "grpo",
        "num_processes": 2,
        "reward_funcs": "mine.py:broken",
        "max_completion_length": 4,
        "num_generations": 2,
        "per_device_train_batch_size": 2,
        "max_steps": 2,
        "report_to": "none",
    }
    rows = [{"prompt": f"w{i}"} for i in range(16)]
    job = new_job(settings, train=rows, model=decoder, code=code)
    begun = time.monotonic()
    exit_code, output = job.train()
    assert exit_code == 1, output
    assert job.failure.startswith("RuntimeError: rank one gave up")
    assert time.monotonic() - begun < 90
