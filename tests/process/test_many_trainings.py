"""`sweep` and a `matrix` through the command line: real training processes, ranked and compared."""

from __future__ import annotations

import json
import os
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

import sm_launch
from sm_launch import cli

pytestmark = pytest.mark.slow

# What a training does here: its score is best at a learning rate of 3e-4.
TRAINER = """
import json, os, sys
from pathlib import Path
from urllib.parse import urlsplit
def main():
    base = Path(os.environ["SAGEMAKER_BASE_DIR"])
    given = json.loads((base / "input/config/hyperparameters.json").read_text())
    rate = float(given["learning_rate"])
    if rate > 0.05:
        print("torch.OutOfMemoryError: CUDA out of memory.", flush=True)
        (base / "output/failure").write_text("rate too high")
        os._exit(3)
    print(f"eval_accuracy={1 - abs(rate - 3e-4)} eval_loss={rate}", flush=True)
    (base / "model/weights.txt").write_text("trained")
"""


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SM_LAUNCH_HOME", str(tmp_path / "state"))
    Path("trainer.py").write_text(TRAINER)
    Path("train.jsonl").write_text('{"text": "good", "label": "positive"}\n')
    environment = {"PYTHONPATH": str(tmp_path), "SAGEMAKER_TRAINING_MODULE": "trainer:main"}
    return {
        "name": "mine",
        "target": "process",
        "training": {
            "model": "org/tiny",
            "channels": {"train": "train.jsonl"},
            "environment": environment,
            "hyperparameters": {"learning_rate": 1e-4, "seed": 1},
        },
    }


def write(document: dict[str, object]) -> None:
    Path("job.yaml").write_text(yaml.safe_dump(document))


def test_a_sweep_finds_the_best(job: dict[str, object], capsys: pytest.CaptureFixture[str]) -> None:
    rates = [1e-4, 3e-4, 1e-3]
    write(
        job
        | {
            "sweep": {
                "parameters": {"learning_rate": rates, "use_peft": [True]},
                "strategy": "grid",
                "objective": "eval:accuracy",
                "max_parallel_jobs": 3,
            }
        }
    )
    assert cli.run(["sweep", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["status"] == "Completed"
    assert [trial["values"]["learning_rate"] for trial in result["trials"]] == [
        "0.0003",
        "0.0001",
        "0.001",
    ]
    assert result["best_job"] == result["trials"][0]["job"]
    assert result["trials"][0]["objective"] == 1.0
    assert cli.run(["sweep", "--attach", result["name"]]) == 0
    out = capsys.readouterr().out
    assert f"sm-launch deploy --job {result['best_job']}" in out
    assert cli.run(["stop", result["name"]]) == 0  # it has ended: nothing to do, no error
    assert "Completed" in capsys.readouterr().out
    assert cli.run(["stop", "nobody"]) == 1


def test_a_sweep_that_fails_says_why(
    job: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = {"parameters": {"learning_rate": {"min": 0.1, "max": 0.2}}, "max_jobs": 1}
    write(job | {"sweep": sweep | {"max_parallel_jobs": 1}})
    assert cli.run(["sweep"]) == 1
    err = capsys.readouterr().err
    assert "rate too high" in err
    assert "halve per_device_train_batch_size" in err


def test_a_matrix_runs_every_combination(
    job: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    parameters = {
        "training.hyperparameters.learning_rate": [1e-4, 0.1],
        "training.model": ["org/tiny", "org/small"],
    }
    write(job | {"matrix": {"parameters": parameters, "max_parallel_jobs": 3}})
    assert cli.run(["train", "--json"]) == 1
    captured = capsys.readouterr()
    jobs = json.loads(captured.out)
    assert [each["TrainingJobStatus"] for each in jobs] == ["Completed"] * 2 + ["Failed"] * 2
    assert len({each["TrainingJobName"] for each in jobs}) == 4
    assert jobs[0]["Metrics"]["eval:loss"] == 1e-4
    assert "2 of 4 training jobs did not complete" in captured.err
    assert "rate too high" in captured.err
    assert cli.run(["gc", "--target", "process", "--job", "other", "--yes"]) == 0
    assert "0 deleted" in capsys.readouterr().err
    assert cli.run(["gc", "--target", "process", "--job", "mine"]) == 0
    assert "4 found; --yes deletes them" in capsys.readouterr().err
    assert cli.run(["gc", "--target", "process", "--older-than", "1h", "--yes"]) == 0
    assert "0 deleted" in capsys.readouterr().err
    assert cli.run(["gc", "--target", "process", "--job", "mine", "--yes"]) == 0
    assert "4 deleted" in capsys.readouterr().err
    assert cli.run(["train", "--dry-run"]) == 0
    requests = json.loads(capsys.readouterr().out)
    models = [request["HyperParameters"]["model_name_or_path"] for request in requests]
    assert models == ["org/tiny", "org/small"] * 2


def test_every_job_keeps_checkpoints_of_its_own(
    job: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    """A second job, and every job of a matrix or a sweep: none finds another's."""

    def places(*arguments: str) -> list[str]:
        assert cli.run([*arguments, "--dry-run"]) == 0
        shown = json.loads(capsys.readouterr().out)
        definitions = [each.get("TrainingJobDefinition", each) for each in
                       (shown if isinstance(shown, list) else [shown])]  # fmt: skip
        return [each["CheckpointConfig"]["S3Uri"] for each in definitions]

    matrix = {"parameters": {"training.hyperparameters.learning_rate": [1e-4, 1e-3, 1e-2]}}
    sweep = {"parameters": {"learning_rate": [1e-4, 1e-3]}, "strategy": "grid",
             "objective": "eval:loss"}  # fmt: skip
    for settings in ({"spot": True}, {"checkpoints": "kept"}, {"checkpoints": "s3://b/kept/"}):
        training = {**job["training"], **settings}  # type: ignore[dict-item]
        write(job | {"training": training})
        paths = [*places("train"), *places("train")]
        write(job | {"training": training, "sweep": sweep})
        paths += places("sweep")
        write(job | {"training": training, "matrix": matrix})
        paths += places("train")
        assert len(set(paths)) == 6, settings
        parents = {uri.rpartition("/")[0] for uri in paths}
        assert len(parents) == 1, settings


def test_resuming_is_asked_for_by_name(
    job: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    write(job | {"training": {**job["training"], "spot": True}})  # type: ignore[dict-item]
    assert cli.run(["train", "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    name = first["TrainingJobName"]
    assert cli.run(["train", "--resume", name]) == 1
    assert "kept no checkpoints" in capsys.readouterr().err
    place = Path(urlsplit(first["CheckpointConfig"]["S3Uri"]).path)
    (place / "checkpoint-3").mkdir(parents=True)
    assert cli.run(["train", "--resume", name, "--dry-run"]) == 0
    assert json.loads(capsys.readouterr().out)["CheckpointConfig"] == first["CheckpointConfig"]
    assert cli.run(["train", "--resume", "mine-20260101-000000-000"]) == 1
    assert "no such training job" in capsys.readouterr().err
    write(job)
    assert cli.run(["train", "--json"]) == 0
    plain = json.loads(capsys.readouterr().out)["TrainingJobName"]
    assert cli.run(["train", "--resume", plain]) == 1
    assert "kept no checkpoints" in capsys.readouterr().err
    write(job | {"matrix": {"parameters": {"training.hyperparameters.seed": [1, 2]}}})
    assert cli.run(["train", "--resume", name]) == 2
    assert "job.yaml has a matrix" in capsys.readouterr().err


def test_a_job_goes_on_with_another_ones_model(
    job: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    training = {**job["training"], "method": "sft"}  # type: ignore[dict-item]
    write(job | {"training": training})
    assert cli.run(["train", "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    name = first["TrainingJobName"]

    def channels(*options: str) -> dict[str, str]:
        assert cli.run(["train", "--dry-run", *options]) == 0, capsys.readouterr().err
        request = json.loads(capsys.readouterr().out)
        assert "model_name_or_path" not in request["HyperParameters"]
        return {
            each["ChannelName"]: each["DataSource"]["S3DataSource"]["S3Uri"]
            for each in request["InputDataConfig"]
        }

    chained = ["--set", f"training.model={name}"]
    artefact = first["ModelArtifacts"]["S3ModelArtifacts"]
    assert channels(*chained)["model"] == artefact
    assert channels("--set", f"training.model=job:{name}")["model"] == artefact
    packed = str(Path(artefact.removeprefix("file://")))
    assert channels("--set", f"training.model={packed}")["model"] == artefact
    for wrong, said in (
        (["--set", "training.model=mine-20260101-000000-000"], "no such training job"),
        ([*chained, "--set", "training.method=text-classification"], "was trained by sft"),
    ):
        capsys.readouterr()
        assert cli.run(["train", "--dry-run", *wrong]) == 2
        assert said in capsys.readouterr().err

    # What it left is an adapter of a model that came as a channel: that is given too.
    write(job | {"training": training | {"model": packed, "hyperparameters": {
        "learning_rate": 1e-4, "use_peft": True, "export": "adapter"}}})  # fmt: skip
    assert cli.run(["train", "--json"]) == 0
    second = json.loads(capsys.readouterr().out)["TrainingJobName"]
    write(job | {"training": training})
    chained_on = channels("--set", f"training.model={second}")
    assert chained_on["base"] == artefact
    assert second in chained_on["model"]
    assert cli.run(["train", "--dry-run", "--set", f"training.model={second}",
                    "--set", "training.hyperparameters.use_peft=true",
                    "--set", "training.hyperparameters.export=adapter"]) == 2  # fmt: skip
    assert "of a model that nobody has" in capsys.readouterr().err


def test_python_runs_the_matrix_too(job: dict[str, object]) -> None:
    parameters = {"training.hyperparameters.learning_rate": [1e-4, 1e-3]}
    write(job | {"matrix": {"parameters": parameters}})
    done = sm_launch.train("job.yaml")
    assert isinstance(done, list)
    assert [each["TrainingJobStatus"] for each in done] == ["Completed"] * 2
    assert [each["Metrics"]["eval:loss"] for each in done] == [1e-4, 1e-3]
    started = sm_launch.train(sm_launch.load("job.yaml"), wait=False)
    assert [each["TrainingJobStatus"] for each in started] == ["InProgress"] * 2
    assert cli.run(["stop"]) == 0
    with pytest.raises(sm_launch.LaunchError, match="2 of 2 training jobs"):
        sm_launch.train("job.yaml", overrides=["matrix.parameters={training.hyperparameters."
                                               "learning_rate: [0.1, 0.2]}"])  # fmt: skip


def test_a_job_of_another_directory_is_not_ones_own(
    job: dict[str, object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write(job)
    assert cli.run(["train", "--json"]) == 0
    theirs = json.loads(capsys.readouterr().out)
    elsewhere = tmp_path / "an other (project)"
    elsewhere.mkdir()
    (elsewhere / "train.jsonl").write_text(Path("train.jsonl").read_text())
    monkeypatch.chdir(elsewhere)
    write(job)
    assert cli.run(["deploy", "--dry-run"]) == 1
    told = capsys.readouterr().err
    assert f"{theirs['TrainingJobName']} is not this job's" in told
    assert str(tmp_path) in told
    assert cli.run(["deploy", "--dry-run", "--job", theirs["TrainingJobName"]]) == 0
    capsys.readouterr()
    assert cli.run(["train", "--json"]) == 0
    own = json.loads(capsys.readouterr().out)
    assert cli.run(["deploy", "--dry-run"]) == 0
    assert own["TrainingJobName"] in capsys.readouterr().out
    monkeypatch.chdir(tmp_path)
    assert cli.run(["deploy", "--dry-run"]) == 0
    assert theirs["TrainingJobName"] in capsys.readouterr().out


def test_an_endpoint_of_another_directory_is_not_ones_own(
    job: dict[str, object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The records are there as `deploy` in another directory leaves them; no server is needed."""
    from sm_launch.sessions.process.store import ENDPOINTS, Store

    tags = [{"Key": "sm-launch:job", "Value": "mine"},
            {"Key": "sm-launch:directory", "Value": "/some/other"}]  # fmt: skip
    state = {"EndpointArn": "arn:aws:sagemaker:local:000000000000:endpoint/mine",
             "EndpointStatus": "Failed", "EndpointConfigName": "c", "CreationTime": 1.0,
             "LastModifiedTime": 1.0, "FailureReason": "it ended"}  # fmt: skip
    store = Store(tmp_path / "state" / "process")
    _, lock = store.create(ENDPOINTS, "mine", {"request": {"Tags": tags}}, state)
    os.close(lock)
    (tmp_path / "model").mkdir()
    write(job)
    rows = ["--data", "train.jsonl"]
    changing = [["deploy", "--model-data", "model"], ["delete"], ["weights", "mine", "a=1"]]
    looking = [["evaluate", *rows], ["monitor", "--once"]]
    for command in [*changing, *looking]:
        assert cli.run(command) == 1, command
        assert "it belongs to the job of /some/other" in capsys.readouterr().err, command
    Path("job.yaml").unlink()
    assert cli.run(["delete", "mine", "--target", "process", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["deleted"] == ["endpoint mine"]
