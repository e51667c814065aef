"""doctor: on a bare machine, and against an account that has some of what is needed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sm_launch import access, cli
from sm_launch.aws_clients import make_client

JOB = """
name: mine
target: sagemaker
training: {image: '123456789012.dkr.ecr.eu-central-1.amazonaws.com/sm-train:1'}
aws: {bucket: %s, training_role: '%s'}
"""


def checks(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, Any]]:
    return {check["name"]: check for check in json.loads(capsys.readouterr().out)}


def test_a_bare_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    assert cli.run(["doctor", "--json"]) == 0
    found = checks(capsys)
    assert found["docker"]["state"] == found["gpu"]["state"] == "warning"
    assert found["credentials"]["detail"] == "no AWS credentials"
    assert all(check["fix"] for check in found.values() if check["state"] != "ok")
    assert cli.run(["doctor", "--target", "sagemaker"]) == 1
    assert "problem" in capsys.readouterr().out


@pytest.mark.slow
def test_an_account_without_anything(
    aws: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("job.yaml").write_text(JOB % ("nobody-has-this", "arn:aws:iam::123456789012:role/none"))
    assert cli.run(["doctor", "--json"]) == 1
    found = checks(capsys)
    assert found["credentials"]["state"] == "ok"
    for name in ("bucket", "aws.training_role", "training.image", "endpoint.image"):
        assert found[name]["state"] == "problem", name
        assert found[name]["fix"]


@pytest.mark.slow
def test_after_setup(
    aws: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    made = access.create("my-bucket", "sm-launch", None, make_client, lambda seconds: None)
    Path("job.yaml").write_text(JOB % (made["Bucket"], made["TrainingRole"]))
    cli.run(["doctor", "--json"])
    found = checks(capsys)
    assert found["bucket"]["state"] == found["aws.training_role"]["state"] == "ok"
