"""An organisation's defaults: under every job.yaml, said once, the SDK's file read too."""

from __future__ import annotations

from pathlib import Path

import boto3
import pytest
import yaml

from sm_launch import cli
from sm_launch.commands.options import choose_profile
from sm_launch.errors import UserInputError
from sm_launch.job.config import JobConfig, load_config, no_job

OURS = {
    "aws": {"region": "eu-west-1", "bucket": "ours", "tags": {"team": "nlp", "cost": "7"}},
    "training": {"max_cost_usd": 20, "instances": {"type": "ml.g6.xlarge", "count": 2}},
}
SDK = {
    "SchemaVersion": "1.0",
    "SageMaker": {
        "PythonSDK": {"Modules": {"Session": {"DefaultS3Bucket": "sdks"}}},
        "TrainingJob": {
            "RoleArn": "arn:aws:iam::123456789012:role/sdk",
            "VpcConfig": {"Subnets": ["subnet-1"], "SecurityGroupIds": ["sg-1"]},
            "Tags": [{"Key": "owner", "Value": "me"}],
        },
        "Model": {"EnableNetworkIsolation": True},
    },
}


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Both files where they are looked for."""
    for name, content in (("sm-launch/defaults", OURS), ("sagemaker/config", SDK)):
        path = tmp_path / "config" / f"{name}.yaml"
        path.parent.mkdir(parents=True)
        path.write_text(yaml.safe_dump(content))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("SM_LAUNCH_DEFAULTS", "SAGEMAKER_USER_CONFIG_OVERRIDE"):
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def job(**document: object) -> JobConfig:
    Path("job.yaml").write_text(yaml.safe_dump({"name": "mine", **document}))
    return load_config(Path("job.yaml"))


def test_a_job_takes_what_it_does_not_say_itself(files: Path) -> None:
    config = job(aws={"tags": {"team": "cv"}}, training={"instances": {"type": "ml.m5.large"}})
    assert config.aws.region == "eu-west-1"
    assert config.aws.bucket == "ours"  # ours before the SDK's
    assert config.aws.training_role == "arn:aws:iam::123456789012:role/sdk"
    assert config.aws.tags == {"owner": "me", "team": "cv", "cost": "7"}
    assert config.training.instances.type == "ml.m5.large"
    assert config.training.instances.count == 2
    assert config.training.network.subnets == ["subnet-1"]
    assert config.endpoint.network.isolation is True
    ours, sdk = config.default_notes
    assert "aws.tags.owner" in sdk and "aws.bucket" not in sdk
    assert "aws.tags.team" not in ours and "training.instances.count" in ours
    assert no_job("none").aws.region == "eu-west-1"
    other = load_config(Path("job.yaml"), ("aws.region=us-east-1",))
    assert other.aws.region == "us-east-1"


def test_they_are_said_once(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job(target="process")
    cli.run(["list"])
    told = capsys.readouterr().err
    assert told.count("sm-launch/defaults.yaml: aws.") == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [("name: mine", "name none"), ("aws: {regoin: x}", "did you mean 'region'"), ("- a", "mapping"),
     ("a: [", "not valid YAML")],
)  # fmt: skip
def test_wrong_defaults_are_refused(files: Path, content: str, message: str) -> None:
    (files / "config/sm-launch/defaults.yaml").write_text(content)
    with pytest.raises(UserInputError, match=message):
        job()


def test_the_variable_names_another_file_or_none(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SM_LAUNCH_DEFAULTS", "")
    assert job().aws.bucket == "sdks"
    monkeypatch.setenv("SM_LAUNCH_DEFAULTS", str(files / "missing.yaml"))
    with pytest.raises(UserInputError, match="no such file"):
        job()


def test_a_profile_comes_before_the_keys_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "of-the-environment")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setenv("AWS_PROFILE", "none")
    Path("config").write_text("[profile mine]\nregion = eu-west-3\naws_access_key_id = of-mine\n"
                              "aws_secret_access_key = y\n")  # fmt: skip
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    asked = ["list", "--target", "sagemaker", "--profile"]
    assert cli.run([*asked, "other"]) == 2
    assert "--profile" in capsys.readouterr().err
    choose_profile("mine")
    credentials = boto3.session.Session().get_credentials()
    assert credentials is not None and credentials.access_key == "of-mine"
