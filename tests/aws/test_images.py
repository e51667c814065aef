"""ECR as `push` wants it: repositories, rules, the log-in, what is listed."""

from __future__ import annotations

import json
import subprocess

import boto3
import pytest
from click.testing import CliRunner

from sm_launch import cli, images
from sm_launch.errors import LaunchError
from sm_launch.images import ecr

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("calls")]


@pytest.fixture
def client(aws):
    return boto3.client("ecr")


def test_a_missing_repository_is_made_with_its_rules(client):
    assert ecr.ensure_repository(client, "sm-train")
    (made,) = client.describe_repositories(repositoryNames=["sm-train"])["repositories"]
    assert made["imageTagMutability"] == "IMMUTABLE"
    assert made["imageScanningConfiguration"] == {"scanOnPush": True}
    policy = client.get_lifecycle_policy(repositoryName="sm-train")["lifecyclePolicyText"]
    assert json.loads(policy) == ecr.LIFECYCLE_POLICY


def test_a_repository_that_is_there_stays_as_its_owner_set_it(client):
    client.create_repository(repositoryName="sm-serve", imageTagMutability="MUTABLE")
    assert not ecr.ensure_repository(client, "sm-serve")
    (repository,) = client.describe_repositories(repositoryNames=["sm-serve"])["repositories"]
    assert repository["imageTagMutability"] == "MUTABLE"
    with pytest.raises(client.exceptions.LifecyclePolicyNotFoundException):
        client.get_lifecycle_policy(repositoryName="sm-serve")


def test_the_log_in_never_shows_its_password(client, tmp_path, monkeypatch):
    """A docker on PATH that keeps what it was given, and refuses."""
    program = tmp_path / "docker"
    program.write_text(
        f'#!/bin/sh\necho "$@" > {tmp_path}/arguments\ncat > {tmp_path}/stdin\n'
        "echo denied >&2\nexit 1\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(LaunchError, match="denied"):
        ecr.open_registry(None, ["sm-train", "sm-serve"])
    arguments = (tmp_path / "arguments").read_text().split()
    password = (tmp_path / "stdin").read_text()
    assert arguments[:4] == ["login", "--username", "AWS", "--password-stdin"]
    assert arguments[4].endswith(".dkr.ecr.eu-central-1.amazonaws.com")
    assert password
    assert password not in arguments
    names = {each["repositoryName"] for each in client.describe_repositories()["repositories"]}
    assert names == {"sm-train", "sm-serve"}


def test_what_is_in_ecr_is_listed(client):
    assert images.list_images(registry="ecr") == []
    client.create_repository(repositoryName="sm-train")
    kind = "application/vnd.docker.distribution.manifest.v2+json"
    manifest = {
        "schemaVersion": 2,
        "mediaType": kind,
        "config": {"digest": "sha256:" + "1" * 64},
        "layers": [],
    }
    pushed = client.put_image(
        repositoryName="sm-train", imageManifest=json.dumps(manifest), imageTag="v1-cpu"
    )["image"]
    (image,) = images.list_images(registry="ecr")
    assert (image["repository"], image["tag"]) == ("sm-train", "v1-cpu")
    assert image["digest"] == pushed["imageId"]["imageDigest"]
    answer = CliRunner().invoke(cli.cli, ["images", "list", "--registry", "ecr", "--json"])
    assert answer.exit_code == 0, answer.output
    assert json.loads(answer.output) == [image]


def test_nothing_is_made_in_ecr_before_the_images_are_there(client, tmp_path):
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    with pytest.raises(LaunchError, match="make build"):
        images.push("cpu", "never-built", root=tmp_path, allow_dirty=True)
    assert client.describe_repositories()["repositories"] == []
