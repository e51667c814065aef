"""A script of the user's with its directory and packages, through the launcher."""

from __future__ import annotations

import importlib.util
import json
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

import sm_launch
from sm_launch.errors import LaunchError

SCRIPT = """
import argparse, json, os, pathlib
import beside, smallpackage
parser = argparse.ArgumentParser()
parser.add_argument("--learning_rate", type=float)
rows = pathlib.Path(os.environ["SM_CHANNEL_TRAIN"], "train.jsonl").read_text().splitlines()
told = {"rate": parser.parse_args().learning_rate, "rows": len(rows), "is": smallpackage.IS}
pathlib.Path(os.environ["SM_MODEL_DIR"], "config.json").write_text(json.dumps(told))
"""
TRAINING: dict[str, Any] = {
    "script": "run.py",
    "source_dir": "src",
    "channels": {"train": "train.jsonl"},
    "hyperparameters": {"learning_rate": 0.5},
}


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SM_LAUNCH_HOME", str(tmp_path / "state"))
    Path("src").mkdir()
    Path("src/run.py").write_text(SCRIPT)
    Path("src/beside.py").write_text("")
    with zipfile.ZipFile("src/smallpackage-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("smallpackage.py", "IS = 'installed'\n")
        folder = "smallpackage-1.0.dist-info"
        wheel.writestr(
            f"{folder}/METADATA", "Metadata-Version: 2.1\nName: smallpackage\nVersion: 1.0\n"
        )
        wheel.writestr(
            f"{folder}/WHEEL",
            "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        wheel.writestr(f"{folder}/RECORD", "")
    Path("src/requirements.txt").write_text("./smallpackage-1.0-py3-none-any.whl\nnumpy\n")
    Path("train.jsonl").write_text('{"text": "a"}\n' * 3)
    write()
    return tmp_path


def write(**changes: Any) -> None:
    document = {"name": "mine", "target": "process", "training": TRAINING | changes}
    Path("job.yaml").write_text(json.dumps(document))


@pytest.mark.slow
def test_it_gets_data_arguments_and_packages(job: Path) -> None:
    done = sm_launch.train()
    assert isinstance(done, dict)
    archive = done["ModelArtifacts"]["S3ModelArtifacts"].removeprefix("file://")
    with tarfile.open(archive) as model:
        stream = model.extractfile("config.json") or model.extractfile("./config.json")
        assert stream is not None
        told = json.loads(stream.read())
    assert told == {"rate": 0.5, "rows": 3, "is": "installed"}
    assert importlib.util.find_spec("smallpackage") is None  # not into the launcher's own Python


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"script": "absent.py"}, "training.script"),
        ({"script": "../train.jsonl"}, "training.script"),
        ({"source_dir": None}, "training.script"),
        ({"source_dir": "absent"}, "training.source_dir"),
        ({"network": {"isolation": True}}, "training.network.isolation"),
        ({"script": None}, "source_dir needs script"),
        ({"hyperparameters": {"sagemaker_program": "other.py"}}, "sagemaker_program"),
        ({"channels": {"code": "src"}}, "channel code"),
    ],
)
def test_what_could_not_run_is_refused(job: Path, changes: dict[str, Any], field: str) -> None:
    write(**changes)
    with pytest.raises(LaunchError, match=field):
        sm_launch.train(wait=False)
    assert not (job / "state").exists()


def test_a_single_file_goes_alone(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from sm_launch import cli

    write(source_dir=None, script="src/run.py", channels={})
    assert cli.run(["train", "--dry-run"]) == 0
    request = json.loads(capsys.readouterr().out)
    (channel,) = request["InputDataConfig"]
    assert channel["ChannelName"] == "code"
    assert channel["DataSource"]["S3DataSource"]["S3Uri"].endswith("/src/run.py")
    assert request["HyperParameters"]["sagemaker_program"] == "run.py"
    assert request["HyperParameters"]["sagemaker_submit_directory"] == "/opt/ml/input/data/code"
