"""`--target docker` as a user types it, and pushed images as a platform pulls them."""

from __future__ import annotations

import ipaddress
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from engine_images import forget
from local_containers import containers_of, docker
from local_hub import LocalHub, files_of, running

# The first test of a run builds the images too.
pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(1500)]

REGISTRY = os.environ.get("REGISTRY_ADDR", "127.0.0.1:5000")
PROGRAM = Path(sys.executable).with_name("sm-launch")


@pytest.fixture
def launch(tmp_path, built, model):
    """A function that runs sm-launch beside a job.yaml whose images are the built ones."""
    rows = [f"row {i} is {word},{word}" for i in range(40) for word in ("good", "bad")]
    (tmp_path / "raw.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    job = {
        "name": "tiny",
        "data": {"input": "raw.csv", "columns": {"text": "text", "label": "label"}},
        "training": {"method": "text-classification", "model": str(model),
                     "image": built["sm-train"].uri,
                     "hyperparameters": {"max_steps": 2}},
        "endpoint": {"image": built["sm-serve"].uri},
    }  # fmt: skip
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))

    def run(*arguments: str, code: int = 0) -> str:
        answer = subprocess.run(
            [PROGRAM, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False,
            env={**os.environ, "HOME": str(tmp_path), "AWS_EC2_METADATA_DISABLED": "true"},
        )  # fmt: skip
        assert answer.returncode == code, answer.stdout + answer.stderr
        return answer.stdout + answer.stderr

    yield run
    run("delete", "tiny", "--target", "docker")
    assert not containers_of(tmp_path)


def test_prepare_train_deploy_invoke(launch, tmp_path):
    launch("data", "prepare", "--target", "docker")
    failed = launch("train", "--target", "docker", "--set",
                    "training.hyperparameters.max_steps=0.5", code=2)  # fmt: skip
    assert "max_steps" in failed
    for command, image in (("train", "sm-train"), ("deploy", "sm-serve")):
        said = launch(command, "--target", "docker")
        assert f"image: {image}:local-mode-cpu" in said
    answer = launch("invoke", "tiny", "--target", "docker", "--text", "good")
    assert json.loads(answer[answer.index("[") :])[0]["label"] in {"good", "bad"}
    load = ["--load", "--p99-ms", "60000", "--set", "evaluation.load.seconds=1",
            "--set", "evaluation.load.max_concurrency=2"]  # fmt: skip
    said = launch("evaluate", "--target", "docker", "--json", *load)
    result, _ = json.JSONDecoder().raw_decode(said[said.index("{") :])  # before what is no result
    steps = result["load"]["steps"]
    assert [step["concurrency"] for step in steps] == [1, 2]
    assert all(step["requests_per_s"] > 0 and step["failed_share"] == 0 for step in steps)


def test_a_model_of_the_hub_is_deployed_as_it_is(tmp_path, built, classifier_dir):
    # This machine, as containers see it. An engine tells no gateway at its first start.
    subnet = docker("network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Subnet}}")
    host = str(ipaddress.ip_network(subnet.strip())[1])
    token = "hf_a_secret_of_mine"
    with running(LocalHub({"me/tiny": files_of(classifier_dir)}, token, host=host)) as hub:
        own = hub.environment(tmp_path / "hf") | {"HF_TOKEN": token}
        endpoint = {
            "image": built["sm-serve"].uri,
            "model": "me/tiny",
            "environment": {**own, "HF_HOME": "/tmp/hf", "HF_TOKEN": "env:HF_TOKEN"},
        }
        job = {"name": "baseline", "target": "docker", "endpoint": endpoint}
        (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))

        def run(*arguments: str) -> str:
            answer = subprocess.run(
                [PROGRAM, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False,
                env={**os.environ, **own, "HOME": str(tmp_path), "NO_PROXY": host},
            )  # fmt: skip
            assert answer.returncode == 0, answer.stdout + answer.stderr
            return answer.stdout + answer.stderr

        try:
            assert "is not pinned" not in run("deploy")
            answer = run("invoke", "baseline", "--text", "good")
            assert json.loads(answer[answer.index("[") :])[0]["label"]
            assert token not in run("logs", "baseline")
        finally:
            run("delete", "baseline", "--yes")
    deadline = time.monotonic() + 30
    while containers_of(tmp_path):
        assert time.monotonic() < deadline, "deleting an endpoint leaves its container behind"
        time.sleep(0.2)


@pytest.fixture
def tag(built):
    """The built images under a tag that no registry has yet: a tag is written once."""
    made = f"pushed-{time.time_ns()}"
    for name in built:
        docker("tag", f"{name}:local-mode-cpu", f"{name}:{made}-cpu")
    yield made
    forget(f":{made}-")


def test_a_pushed_image_can_be_pulled_by_its_digest_and_runs(tag):
    host, _, port = REGISTRY.partition(":")
    with socket.socket() as probe:
        if probe.connect_ex((host, int(port))):
            pytest.skip(f"no registry answers at {REGISTRY} (.ci/docker-engine starts one)")
    command = [PROGRAM, "images", "push", "--tag", tag, "--registry", REGISTRY,
               "--allow-dirty", "--json"]  # fmt: skip
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    pushed = json.loads(answer.stdout)
    assert [each["name"] for each in pushed] == ["sm-train", "sm-serve"]
    listing = [PROGRAM, "images", "list", "--registry", REGISTRY, "--json"]
    entries = json.loads(subprocess.run(listing, capture_output=True, check=True).stdout)
    for image in pushed:
        digest = image["digest"]
        assert [each for each in entries if each["tag"] == f"{tag}-cpu"
                and each["digest"] == digest.partition("@")[2]]  # fmt: skip
        docker("rmi", image["uri"])
        docker("pull", "--quiet", digest)
        said = docker("run", "--rm", "--network", "none", digest, "python", "-c",
                      "import torch; print(torch.__version__)")  # fmt: skip
        assert said.startswith("2.13.0")
        docker("rmi", digest)
