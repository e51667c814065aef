"""SageMaker's training contract: a test (or more) for each row of the table in docs/training.md."""

from __future__ import annotations

import json
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

import sm_launch.job.limits
from sm_launch.job import naming
from sm_launch.job.config import JobConfig
from sm_launch.job.hyperparameters import metric_definitions
from sm_launch.jobs import requests
from sm_train.command import check_platform_files, put_cause_first
from sm_train.config import load_config
from sm_train.contract import Cluster, Paths, read_cluster
from sm_train.data.channels import load_data
from sm_train.errors import UserError
from sm_train.launch import wait_for_host, worker_environment
from sm_train.loop.checkpoints import last_complete
from sm_train.modelling.base_model import resolve_base_model

ROOT = Path(__file__).parents[3]
SETTINGS = {
    "method": "text-classification",
    "learning_rate": 0.005,
    "num_train_epochs": 3,
    "logging_steps": 1,
}


@dataclass(frozen=True)
class Finished:
    """A whole run of `train` in a base directory of its own."""

    job: Any
    code: int
    output: str
    before: set[str]


@pytest.fixture(scope="session")
def finished(
    session_job: Callable[..., Any], encoders: dict[str, Path], sentiment: Callable[..., Any]
) -> Finished:
    """One job, with read-only input and the SDK's own channels, that most rows look at."""
    job = session_job(
        {**SETTINGS, "sagemaker_job_name": '"mine"', "sagemaker_region": '"eu-west-1"'},
        train=sentiment(64, 1),
        validation=sentiment(16, 2),
        test=sentiment(16, 3),
        sm_drivers=[],
        code=[{"not": "data"}],
    )
    shutil.copytree(encoders["bert"], job.path / "input" / "data" / "model")
    before = files(job.path / "input")
    for path in (job.path / "input").rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    variables = {"TRAINING_JOB_NAME": "mine", "HF_HUB_OFFLINE": "1"}
    code, output = job.train(**variables)
    return Finished(job, code, output, before)


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    made = Paths(tmp_path)
    made.config.mkdir(parents=True)
    made.channels.mkdir()
    for name in ("hyperparameters", "inputdataconfig"):
        (made.config / f"{name}.json").write_text("{}")
    hosts = {"current_host": "algo-1", "hosts": ["algo-1"]}
    (made.config / "resourceconfig.json").write_text(json.dumps(hosts))
    return made


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_the_table_has_a_test_for_each_row() -> None:
    text = (ROOT / "docs" / "training.md").read_text()
    table = text.split("## The SageMaker contract")[1].split("\n## ")[0]
    rows = re.findall(r"^\| ([a-zA-Z /-]+) \|", table, re.MULTILINE)[1:]
    assert len(rows) == 19
    tests = [name for name in globals() if name.startswith("test_")]
    for row in rows:
        prefix = "test_" + re.sub(r"[ /-]+", "_", row.lower())
        assert any(name.startswith(prefix) for name in tests), row


def test_start_train_is_a_command_and_the_image_has_no_entrypoint() -> None:
    assert shutil.which("train", path=str(Path(sys.executable).parent))
    lines = (ROOT / "containers" / "train" / "Dockerfile").read_text().splitlines()
    assert not any(line.startswith("ENTRYPOINT") for line in lines)
    commands = [line for line in lines if line.startswith("CMD")]
    assert commands == ['CMD ["train"]']


@pytest.mark.parametrize("content", ["{", "[]", "", "\xff"])
@pytest.mark.parametrize("name", ["hyperparameters", "inputdataconfig", "resourceconfig"])
def test_config_a_broken_file_is_named(paths: Paths, name: str, content: str) -> None:
    (paths.config / f"{name}.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError, match=rf"^{name}\.json"):
        check_platform_files(paths)
    (paths.config / f"{name}.json").unlink()
    with pytest.raises(UserError, match=rf"^{name}\.json: is missing"):
        check_platform_files(paths)


def test_config_a_failure_of_the_toolkit_begins_with_its_cause(tmp_path: Path) -> None:
    failure = tmp_path / "failure"
    failure.write_text(
        "Framework Error: \nTraceback (most recent call last):\n  File x\nOSError: no"
    )
    put_cause_first(failure)
    assert failure.read_text().startswith("OSError: no\n\nFramework Error:")
    failure.write_text("ExecuteUserScriptError: exit code 3")
    put_cause_first(failure)
    assert failure.read_text() == "ExecuteUserScriptError: exit code 3"


@pytest.mark.slow
def test_base_directory_holds_everything(finished: Finished) -> None:
    assert finished.code == 0, finished.output
    assert {"input", "model", "output", "checkpoints"} <= {
        path.name for path in finished.job.path.iterdir()
    }


@pytest.mark.parametrize(
    "form",
    [
        lambda value: json.dumps(value),  # SDK v2 quotes each value
        lambda value: value if isinstance(value, str) else json.dumps(value),  # SDK v3, boto3
        lambda value: str(value),
        lambda value: json.dumps(json.dumps(value)),
    ],
)
def test_hyperparameters_in_every_form(paths: Paths, form: Callable[[Any], str]) -> None:
    values = {"learning_rate": 2e-5, "use_peft": True, "lora_target_modules": ["a", "b"]}
    values |= {"columns": {"l'avis": "text"}, "dataset_text_field": "it's"}
    raw = {key: form(value) for key, value in values.items()} | {"method": "sft"}
    raw |= {f"sagemaker_{i}": "x" for i in range(90)}  # 100 are allowed, most not the user's
    (paths.config / "hyperparameters.json").write_text(json.dumps(raw))
    config = load_config(paths)
    assert config.training["learning_rate"] == 2e-5
    assert config.model.use_peft is True
    assert config.model.lora_target_modules == ["a", "b"]
    assert config.job.columns == {"l'avis": "text"}
    assert config.training["dataset_text_field"] == "it's"


@pytest.mark.slow
def test_environment_reaches_the_job_and_a_config_s_env_wins(
    session_job: Callable[..., Any], decoder: Path
) -> None:
    """What the platform and the user set is there while training; a YAML's `env` comes on top."""
    code = (
        "import os\n"
        "def seen(completions, **_):\n"
        "    names = 'TRAINING_JOB_NAME', 'TRAINING_JOB_ARN', 'MINE', 'OURS'\n"
        "    print('seen', *(os.environ.get(name) for name in names), flush=True)\n"
        "    return [0.0] * len(completions)\n"
    )
    settings = {
        "method": "grpo",
        "config": "env: {OURS: from-yaml, MINE: changed}\nmax_steps: 1",
        "reward_funcs": "mine.py:seen",
        "num_generations": 2,
        "per_device_train_batch_size": 2,
        "max_completion_length": 2,
        "report_to": "none",
    }
    job = session_job(settings, train=[{"prompt": "w1"}] * 4, model=decoder, code=[])
    (job.path / "input" / "data" / "code" / "mine.py").write_text(code)
    arn = "arn:aws:sagemaker:eu-west-1:123456789012:training-job/mine"
    variables = {"TRAINING_JOB_NAME": "mine", "TRAINING_JOB_ARN": arn, "MINE": "x" * 512}
    exit_code, output = job.train(**variables)
    assert exit_code == 0, output
    assert f"seen mine {arn} changed from-yaml" in output


@pytest.mark.slow
def test_channels_of_the_sdk_are_no_data_and_input_is_left_alone(finished: Finished) -> None:
    assert "channel train: 64 rows" in finished.output
    assert "sm_drivers" not in finished.output
    assert files(finished.job.path / "input") == finished.before


@pytest.mark.parametrize("name", ["training", "train"])
def test_channels_go_by_the_names_that_people_give_them(paths: Paths, name: str) -> None:
    for folder in (name, "val", "testing"):
        (paths.channels / folder).mkdir()
        (paths.channels / folder / "a.csv").write_text("text\nx\n")
    (paths.config / "hyperparameters.json").write_text('{"method": "sft"}')
    data = load_data(paths, load_config(paths))
    assert data.train == data.validation == data.test == [{"text": "x"}]


@pytest.mark.parametrize("mode", ["File", "FastFile", "Pipe"])
def test_input_modes(paths: Paths, mode: str) -> None:
    (paths.config / "inputdataconfig.json").write_text(
        json.dumps({"train": {"TrainingInputMode": mode}})
    )
    if mode != "Pipe":
        check_platform_files(paths)
        return
    with pytest.raises(UserError, match=r"TrainingInputMode = 'Pipe'.*use File or FastFile"):
        check_platform_files(paths)


@pytest.mark.slow
def test_model_out_is_a_plain_model_directory(finished: Finished) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(finished.job.model)
    tokens = AutoTokenizer.from_pretrained(finished.job.model)("good", return_tensors="pt")
    assert model(**tokens).logits.shape == (1, 2)
    paths = files(finished.job.model)
    assert "model.safetensors" in paths
    assert not [name for name in paths if name.endswith((".bin", ".pt", ".pth"))]


@pytest.mark.slow
def test_other_out_holds_reports(finished: Finished) -> None:
    paths = files(finished.job.path / "output" / "data")
    assert {"training_log.jsonl", "training_summary.json", "rejected.jsonl"} <= paths


@pytest.mark.slow
def test_checkpoints_are_few_whole_and_not_in_the_model(finished: Finished) -> None:
    kept = list(finished.job.checkpoints.glob("checkpoint-*"))
    assert 1 <= len(kept) <= 2
    assert last_complete(finished.job.checkpoints) is not None
    assert not list(finished.job.model.glob("checkpoint-*"))


@pytest.mark.slow
def test_exit_0_is_completed(finished: Finished) -> None:
    assert (finished.code, finished.job.failure) == (0, "")


@pytest.mark.slow
def test_exit_of_a_failure_is_not_0_and_its_file_begins_with_the_cause(
    new_job: Callable[..., Any],
) -> None:
    job = new_job({**SETTINGS, "columns": {"x" * 900: "y" * 900}})
    code, output = job.train()
    assert code == 1
    assert job.failure.startswith("model_name_or_path: is missing")
    assert len(job.failure) <= 1024
    assert "Traceback" not in output
    resources = job.path / "input" / "config" / "resourceconfig.json"
    resources.write_text("{")
    (job.path / "output" / "failure").unlink()
    code, output = job.train()
    assert code == 1
    assert job.failure.startswith("resourceconfig.json: is not valid JSON")
    assert "Traceback" not in output


@pytest.mark.slow
def test_stop_leaves_a_checkpoint_well_within_the_grace_time(
    new_job: Callable[..., Any], encoders: dict[str, Path], sentiment: Callable[..., Any]
) -> None:
    settings = {**SETTINGS, "num_train_epochs": 500, "report_to": "none"}
    job = new_job(settings, train=sentiment(64, 1), model=encoders["bert"])
    process = job.start()
    for line in process.stdout:
        if line.startswith("step=5 "):
            process.send_signal(signal.SIGTERM)
            break
    begun = time.monotonic()
    process.communicate(timeout=sm_launch.job.limits.TRAINING_GRACE_SECONDS)
    assert time.monotonic() - begun < sm_launch.job.limits.TRAINING_GRACE_SECONDS / 2
    assert process.returncode == 128 + signal.SIGTERM
    assert last_complete(job.checkpoints) is not None


INPUTS = requests.TrainingInputs(
    channels={"train": "s3://bucket/train/"},
    output="s3://bucket/jobs",
    checkpoints="s3://bucket/checkpoints",
    model=None,
    metric_definitions=[],
)


def launched(**training: Any) -> dict[str, Any]:
    """The CreateTrainingJob request that the launcher makes."""
    role = {"training_role": "arn:aws:iam::123456789012:role/mine"}
    image = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/train:1"
    training = {"image": image, **training}
    config = JobConfig.model_validate({"name": "mine", "training": training, "aws": role})
    return requests.create_training_job(config, naming.unique_name("mine"), INPUTS)


def test_limits_of_time_and_spot_are_kept() -> None:
    with pytest.raises(ValidationError, match="max_runtime_seconds"):
        launched(max_runtime_seconds=28 * 86_400 + 1)
    with pytest.raises(ValidationError, match="max_wait_seconds"):
        launched(spot=True, max_runtime_seconds=100, max_wait_seconds=99)
    spot = launched(spot=True, max_runtime_seconds=100)
    condition = spot["StoppingCondition"]
    assert condition["MaxWaitTimeInSeconds"] >= condition["MaxRuntimeInSeconds"]
    assert spot["CheckpointConfig"]["S3Uri"] == INPUTS.checkpoints


@pytest.mark.slow
def test_metrics_match_the_log_and_keep_the_limits(finished: Finished) -> None:
    definitions = metric_definitions("text-classification")
    assert len(definitions) <= 40
    for definition in definitions:
        assert len(definition["Name"]) <= 255
        assert len(definition["Regex"]) <= 500
    matches = {d["Name"]: re.findall(d["Regex"], finished.output) for d in definitions}
    for name in ("train:loss", "eval:loss", "eval:f1", "test:accuracy"):
        assert matches[name], name
        assert all(float(value) >= 0 for value in matches[name])


def test_multi_node_rank_is_the_index_among_the_sorted_hosts(paths: Paths) -> None:
    config = {"current_host": "algo-2", "hosts": ["algo-3", "algo-1", "algo-2"]}
    config["network_interface_name"] = "ethwe"
    (paths.config / "resourceconfig.json").write_text(json.dumps(config))
    cluster = read_cluster(paths)
    assert (cluster.rank, cluster.leader, cluster.interface) == (1, "algo-1", "ethwe")
    wait_for_host("localhost")


def test_efa_nccl_settings_follow_the_interface_and_the_instance_type(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("FI_PROVIDER", "NCCL_SOCKET_IFNAME"):
        monkeypatch.delenv(name, raising=False)

    def variables(kind: str) -> dict[str, str]:
        return worker_environment(Cluster(("algo-1", "algo-2"), "algo-1", "eth1", kind))

    assert variables("ml.g5.xlarge")["NCCL_SOCKET_IFNAME"] == "eth1"
    assert "FI_PROVIDER" not in variables("ml.g5.xlarge")
    assert variables("ml.p5.48xlarge")["FI_PROVIDER"] == "efa"


def test_warm_pool_period_is_asked_for_within_its_limits() -> None:
    kept = launched(instances={"type": "ml.g5.xlarge", "keep_alive_seconds": 600})
    assert kept["ResourceConfig"]["KeepAlivePeriodInSeconds"] == 600
    with pytest.raises(ValidationError, match="keep_alive_seconds"):
        launched(instances={"type": "ml.g5.xlarge", "keep_alive_seconds": 21_601})


def test_network_isolation_needs_the_base_model_as_a_channel(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    values = {"method": "sft", "model_name_or_path": "Qwen/Qwen3-0.6B"}
    (paths.config / "hyperparameters.json").write_text(json.dumps(values))
    with pytest.raises(UserError, match="give the job the model as a channel named model"):
        resolve_base_model(paths, load_config(paths))
    assert launched(network={"isolation": True})["EnableNetworkIsolation"] is True


@pytest.mark.parametrize("base", ["mine", "a" * 63, "My-Job"])
def test_job_name_is_unique_and_valid(base: str) -> None:
    names = {naming.unique_name(base) for _ in range(20)}
    assert all(re.fullmatch(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}", name) for name in names)
