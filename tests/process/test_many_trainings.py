"""`sweep` and a `matrix` through the command line: real training processes, ranked and compared."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from sm_launch import cli

pytestmark = pytest.mark.slow

# What a training does here: its score is best at a learning rate of 3e-4.
TRAINER = """
import json, os, sys
from pathlib import Path
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
    assert [found["TrainingJobStatus"] for found in jobs] == ["Completed"] * 2 + ["Failed"] * 2
    assert len({found["TrainingJobName"] for found in jobs}) == 4
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
