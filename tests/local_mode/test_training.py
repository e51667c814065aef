"""The training image under the SDK's local mode."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
from local_containers import containers_of

# The first test of a run builds the images too.
pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(1500)]


def test_two_hosts_train_one_model(jobs):
    jobs.start("two", hosts=2)
    description = jobs.wait("two")
    assert description["TrainingJobStatus"] == "Completed", jobs.log("two")
    assert (jobs.root / "out" / "two" / "output" / "model.tar.gz").is_file()
    assert not containers_of(jobs.root)


def test_a_failure_tells_the_containers_own_words(jobs):
    jobs.start("typo", learning_rat="1e-4")
    description = jobs.wait("typo")
    assert description["TrainingJobStatus"] == "Failed"
    assert "learning_rate" in description["FailureReason"]
    assert not containers_of(jobs.root)


def test_isolation_leaves_the_job_without_a_network(jobs):
    jobs.start("isolated", extra={"EnableNetworkIsolation": True})
    assert jobs.wait("isolated")["TrainingJobStatus"] == "Completed", jobs.log("isolated")


def test_a_stopped_job_keeps_a_checkpoint_and_a_rerun_resumes(jobs):
    checkpoints = jobs.root / "checkpoints"
    extra = {"CheckpointConfig": {"S3Uri": checkpoints.as_uri()}}
    jobs.start("first", epochs=200, extra=extra)
    while "loss=" not in jobs.log("first"):
        assert (
            jobs.session.describe_training_job(TrainingJobName="first")["TrainingJobStatus"]
            == "InProgress"
        ), jobs.log("first")
        time.sleep(0.3)
    jobs.session.stop_training_job(TrainingJobName="first")
    assert jobs.wait("first")["TrainingJobStatus"] == "Stopped"
    assert list(checkpoints.glob("checkpoint-*"))
    jobs.start("another", epochs=1, extra=extra)  # whose checkpoints these are not
    refused = jobs.wait("another")
    assert refused["TrainingJobStatus"] == "Failed", jobs.log("another")
    assert "num_train_epochs was 200" in refused["FailureReason"]
    jobs.start("second", epochs=200, extra=extra)
    while "resuming from" not in (log := jobs.log("second")):
        state = jobs.session.describe_training_job(TrainingJobName="second")
        assert state["TrainingJobStatus"] == "InProgress", log
        time.sleep(0.3)
    jobs.session.stop_training_job(TrainingJobName="second")
    assert jobs.wait("second")["TrainingJobStatus"] == "Stopped", jobs.log("second")


def test_sft_with_lora_leaves_a_merged_model(jobs, language_model_dir):
    rows = [{"prompt": f"the plot was {i}", "completion": " good"} for i in range(16)]
    data = jobs.write("questions", "train.jsonl", "\n".join(map(json.dumps, rows)))
    settings = {"method": "sft", "max_steps": "2", "use_peft": "true", "max_length": "32"}
    jobs.run("sft", settings, {"train": data, "model": language_model_dir})
    assert jobs.wait("sft")["TrainingJobStatus"] == "Completed", jobs.log("sft")
    with tarfile.open(jobs.root / "out" / "sft" / "output" / "model.tar.gz") as artefact:
        names = {name.removeprefix("./") for name in artefact.getnames()}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= names
    assert "adapter_model.safetensors" not in names


def test_a_script_of_the_users_own_runs_with_its_arguments(jobs):
    script = (
        "import os, sys\n"
        "print('arguments', sys.argv[1:], os.environ['SM_CHANNEL_TRAIN'])\n"
        "open(os.path.join(os.environ['SM_MODEL_DIR'], 'mine'), 'w').write('x')\n"
    )
    code = jobs.write("code", "mine.py", script)
    settings = {"sagemaker_program": "mine.py", "learning_rate": "0.1"}
    settings["sagemaker_submit_directory"] = "/opt/ml/input/data/code"
    jobs.run("mine", settings, {"train": jobs.root / "train", "code": code})
    assert jobs.wait("mine")["TrainingJobStatus"] == "Completed", jobs.log("mine")
    assert "arguments ['--learning_rate', '0.1'] /opt/ml/input/data/train" in jobs.log("mine")
    with tarfile.open(jobs.root / "out" / "mine" / "output" / "model.tar.gz") as artefact:
        assert [name for name in artefact.getnames() if name.endswith("mine")]


SDK_SCRIPT = """
import json, os
import torch
import torch.distributed as dist
values = json.loads(os.environ["SM_HPS"])
print("rows in", os.environ["SM_CHANNEL_TRAIN"], "rate", values["learning_rate"])
dist.init_process_group("gloo")
total = torch.ones(1)
dist.all_reduce(total)
print("hosts that added up:", int(total))
dist.destroy_process_group()
open(os.path.join(os.environ["SM_MODEL_DIR"], "mine"), "w").write(torch.__version__)
"""
SDK_METHOD = {"method": "text-classification", "max_steps": 2, "bf16": False}


HELPERS = Path(__file__).parents[1] / "helpers"


def run_program(name: str, plan: dict, **environment: str) -> str:
    """What a program beside this file prints, which runs one job through an SDK."""
    command = [sys.executable, str(Path(__file__).with_name(name)), json.dumps(plan)]
    path = [str(HELPERS), *filter(None, [environment.get("PYTHONPATH")])]
    answer = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment, "PYTHONPATH": os.pathsep.join(path)},
    )
    log = answer.stdout + answer.stderr
    assert answer.returncode == 0, log[-3000:]
    return log


@pytest.mark.parametrize(("script", "hosts"), [(True, 2), (False, 2), (False, 1)])
def test_the_sdks_model_trainer_runs_in_the_image(jobs, tmp_path, script, hosts):
    """SDK v3's ModelTrainer in local mode: a script as source_code, and none for our methods."""
    pytest.importorskip("sagemaker.train.model_trainer", reason="sagemaker-train is not installed")
    jobs.write("code", "mine.py", SDK_SCRIPT)
    plan = {"image": jobs.image, "root": str(tmp_path), "script": script, "hosts": hosts,
            "settings": {"learning_rate": 0.1} if script else SDK_METHOD,
            "channels": {"train": str(tmp_path / "train"), "model": str(jobs.model)}}  # fmt: skip
    log = run_program("model_trainer_job.py", plan)
    if script:
        assert "rows in /opt/ml/input/data/train rate 0.1" in log
        assert f"hosts that added up: {hosts}" in log
    artefact = tmp_path / "container" / "compressed_artifacts" / "model.tar.gz"
    with tarfile.open(artefact) as archive:
        names = {Path(name).name for name in archive.getnames()}
    assert ({"mine"} if script else {"config.json", "model.safetensors"}) <= names


def test_sdk_v2s_estimator_runs_in_the_image(jobs, tmp_path):
    folder = Path(sys.prefix) / "sdk-v2"
    if not folder.is_dir():
        pytest.skip("SDK v2 is not installed (`make setup-dev` puts it into .venv/sdk-v2)")
    plan = {"image": jobs.image, "root": str(tmp_path), "settings": SDK_METHOD,
            "channels": {"train": str(tmp_path / "train"), "model": str(jobs.model)}}  # fmt: skip
    log = run_program("estimator_job.py", plan, PYTHONPATH=str(folder))
    path = Path(log.rpartition("artefact file://")[2].split()[0])
    with tarfile.open(path) as archive:
        assert {"config.json", "model.safetensors"} <= set(archive.getnames())


def test_training_needs_neither_root_nor_a_home(tmp_path, built, language_model_dir):
    base = tmp_path / "ml"
    shutil.copytree(language_model_dir, base / "input" / "data" / "model")
    (base / "input" / "data" / "train").mkdir()
    rows = "\n".join(json.dumps({"text": f"the plot was {i}"}) for i in range(8))
    (base / "input" / "data" / "train" / "rows.jsonl").write_text(rows)
    config = {
        "hyperparameters": {"method": "sft", "max_steps": "1", "max_length": "32"},
        "inputdataconfig": {"train": {}, "model": {}},
        "resourceconfig": {"current_host": "algo-1", "hosts": ["algo-1"]},
    }
    (base / "input" / "config").mkdir()
    for name, content in config.items():
        (base / "input" / "config" / f"{name}.json").write_text(json.dumps(content))
    user = os.getuid() or 1000
    for path in (base, *base.rglob("*")):
        os.chown(path, user, -1)
    command = ["docker", "run", "--rm", "--network", "none", "--user", str(user), "--volume",
               f"{base}:/opt/ml", built["sm-train"].uri, "train"]  # fmt: skip
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    written = (base / "model" / "model.safetensors").stat()
    assert written.st_uid == user
    assert written.st_mode & 0o044 == 0o044, "a server that runs as another user must read it"
