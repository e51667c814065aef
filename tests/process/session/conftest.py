"""A session with a short temper, and requests for the stand-ins."""

import json
import sys
import tarfile
import time
from pathlib import Path

import pytest

from sm_launch.sessions.process import ProcessSession
from sm_launch.sessions.process.base import Settings

STANDINS = Path(__file__).parent / "standins"
ROLE = "arn:aws:iam::000000000000:role/sm-launch-local"


@pytest.fixture
def session(tmp_path):
    settings = Settings(
        serve_command=[sys.executable, str(STANDINS / "serve_standin.py")],
        training_grace=1,
        endpoint_grace=2,
        startup_timeout=10,
    )
    session = ProcessSession(tmp_path / "home", settings)
    yield session
    for summary in session.list_endpoints()["Endpoints"]:
        session.delete_endpoint(EndpointName=summary["EndpointName"])
    for summary in session.list_training_jobs(StatusEquals="InProgress")["TrainingJobSummaries"]:
        session.stop_training_job(TrainingJobName=summary["TrainingJobName"])
    wait_for(lambda: not session.list_endpoints()["Endpoints"])


@pytest.fixture
def training_request(tmp_path):
    """A function that makes a valid request; keyword arguments are hyperparameters."""
    data = tmp_path / "data" / "train"
    data.mkdir(parents=True)
    (data / "train.jsonl").write_text('{"text": "good", "label": "positive"}\n')

    def request(name, **hyperparameters):
        return {
            "TrainingJobName": name,
            "HyperParameters": {key: str(value) for key, value in hyperparameters.items()},
            "AlgorithmSpecification": {
                "TrainingImage": "train:local",
                "TrainingInputMode": "File",
                "MetricDefinitions": [
                    {"Name": "eval:accuracy", "Regex": r"eval_accuracy=([0-9.eE+-]+)"},
                    {"Name": "eval:loss", "Regex": r"eval_loss=([0-9.eE+-]+)"},
                    {"Name": "never", "Regex": "never=([0-9]+)"},
                ],
            },
            "RoleArn": ROLE,
            "InputDataConfig": [
                {
                    "ChannelName": "train",
                    "ContentType": "application/jsonlines",
                    "DataSource": {
                        "S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": data.as_uri()}
                    },
                }
            ],
            "OutputDataConfig": {"S3OutputPath": (tmp_path / "output").as_uri()},
            "ResourceConfig": {
                "InstanceType": "ml.m5.large",
                "InstanceCount": 1,
                "VolumeSizeInGB": 10,
            },
            "StoppingCondition": {"MaxRuntimeInSeconds": 60},
            "Environment": {
                "PYTHONPATH": str(STANDINS),
                "SAGEMAKER_TRAINING_MODULE": "train_standin:main",
            },
            "Tags": [{"Key": "sm-launch:job", "Value": "test"}],
        }

    return request


@pytest.fixture
def model_archive(tmp_path):
    """A function that writes a model.tar.gz whose server behaves as the keyword arguments say."""

    def write(name="model", **behaviour):
        directory = tmp_path / "artefacts" / name
        directory.mkdir(parents=True)
        (directory / "behaviour.json").write_text(json.dumps(behaviour))
        archive = directory / "model.tar.gz"
        with tarfile.open(archive, "w:gz") as tar:
            tar.add(directory / "behaviour.json", arcname="behaviour.json")
        return archive

    return write


@pytest.fixture
def deploy(session, model_archive):
    """A function that makes model, configuration and endpoint, all of one name."""

    def create(name="endpoint", variant=None, **behaviour):
        make_config(session, name, model_archive(name, **behaviour), variant)
        session.create_endpoint(EndpointName=name, EndpointConfigName=name)
        return name

    return create


def make_config(session, name, archive, variant=None, more=None):
    session.create_model(
        ModelName=name,
        PrimaryContainer={
            "Image": "serve:local",
            "ModelDataUrl": archive.as_uri(),
            "Environment": {"GREETING": "hello"},
        },
        ExecutionRoleArn=ROLE,
    )
    session.create_endpoint_config(
        EndpointConfigName=name,
        ProductionVariants=[
            {
                "VariantName": "AllTraffic",
                "ModelName": name,
                "InitialInstanceCount": 1,
                "InstanceType": "ml.m5.large",
                **(variant or {}),
            }
        ],
        **(more or {}),
    )


def wait_for(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError(f"not so within {seconds} s")


def wait_for_training(session, name, *final):
    final = final or ("Completed", "Failed", "Stopped")

    def status():
        return session.describe_training_job(TrainingJobName=name)["TrainingJobStatus"]

    wait_for(lambda: status() in final)
    return session.describe_training_job(TrainingJobName=name)


def wait_for_endpoint(session, name, status="InService"):
    def description():
        return session.describe_endpoint(EndpointName=name)

    wait_for(lambda: description()["EndpointStatus"] not in {"Creating", "Updating"})
    assert description()["EndpointStatus"] == status, description()
    return description()


def processes_below(root):
    """The processes that run for jobs and endpoints below a directory."""
    marker = f"SAGEMAKER_BASE_DIR={root}/".encode()
    processes = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and marker in (entry / "environ").read_bytes():
                processes.append(int(entry.name))
        except OSError:
            continue
    return processes


def parent_of(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
