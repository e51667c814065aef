"""`data prepare --processing-job` on two machines: two containers on a network, against one."""

from __future__ import annotations

import json
import shutil
import uuid
from pathlib import Path
from typing import Any

import pytest
import yaml
from local_containers import docker
from prepared_parts import check_equal

from sm_launch.job.config import JobConfig, load_config
from sm_launch.jobs import processing

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(1500)]

BASE = Path(processing.BASE)


@pytest.fixture
def network():
    name = f"sm-launch-{uuid.uuid4().hex[:8]}"
    docker("network", "create", "--internal", name)
    yield name
    docker("network", "rm", name)


@pytest.fixture
def raw(tmp_path):
    """Five files: equal rows, a tie and rows that cannot be used stand in several of them."""
    directory = tmp_path / "raw"
    directory.mkdir()
    for at in range(5):
        numbers = range(at * 40, at * 40 + 100)
        lines = [f"row {n} of any,{'good' if n % 3 else 'bad'}" for n in numbers]
        lines += [f"a tie,{'good' if at % 2 else 'bad'}", ",good", "a,b,c"]
        (directory / f"{at}.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    return directory


def job(directory: Path, image: str, count: int) -> JobConfig:
    document = {
        "name": "far",
        "data": {
            "input": "raw",
            "duplicates": {"near": 0.9},
            "processing": {"instance_count": count},
        },
        "training": {"image": image},
    }
    path = directory / f"job-{count}.yaml"
    path.write_text(yaml.safe_dump(document))
    return load_config(path)


def request_of(config: JobConfig) -> dict[str, Any]:
    uris = {name: f"s3://bucket/{name}/" for name in (processing.CODE, "input")}
    inputs = processing.ProcessingInputs(
        uris, "s3://bucket/out", str(config.training.image), "arn:aws:iam::000000000000:role/any"
    )
    return processing.build_request(config, "far", inputs)


class Machine:
    """One container of a job, with the files that SageMaker would give it."""

    def __init__(self, root: Path, hosts: list[str], at: int, config: JobConfig, raw: Path) -> None:
        self.name, self.root = hosts[at], root / hosts[at]
        self.request = request_of(config)
        (self.root / "config").mkdir(parents=True)
        (self.root / "said").mkdir()
        resources = {"current_host": self.name, "hosts": hosts, "network_interface_name": "eth0"}
        (self.root / "config/resourceconfig.json").write_text(json.dumps(resources))
        for each in self.request["ProcessingInputs"]:
            path = self.root / Path(each["S3Input"]["LocalPath"]).relative_to("/opt/ml")
            path.parent.mkdir(parents=True, exist_ok=True)
            if each["InputName"] == processing.CODE:
                processing.write_code(config, path)
                continue
            path.mkdir()
            sharded = each["S3Input"]["S3DataDistributionType"] == "ShardedByS3Key"
            files = sorted(raw.iterdir())
            for file in files[at :: len(hosts)] if sharded else files:
                shutil.copy(file, path)

    def start(self, network: str) -> None:
        command, *arguments = self.request["AppSpecification"]["ContainerEntrypoint"]
        variables = [f"--env={k}={v}" for k, v in self.request["Environment"].items()]
        self.id = docker(
            "run", "--detach", f"--network={network}", f"--network-alias={self.name}",
            f"--hostname={self.name}", f"--volume={self.root / 'processing'}:{BASE}",
            f"--volume={self.root / 'config'}:/opt/ml/config",
            f"--volume={self.root / 'said'}:/opt/ml/output", *variables,
            f"--entrypoint={command}", self.request["AppSpecification"]["ImageUri"], *arguments,
        )  # fmt: skip

    def wait(self) -> int:
        code = int(docker("wait", self.id))
        self.log = docker("logs", self.id)
        docker("rm", "--force", self.id)
        return code

    @property
    def output(self) -> Path:
        return self.root / "processing/output/far/data"


def test_two_containers_prepare_what_one_does(built, network, raw, tmp_path):
    image = built["sm-train"].uri
    one = Machine(tmp_path / "one", ["algo-1"], 0, job(tmp_path, image, 1), raw)
    two = [
        Machine(tmp_path / "two", ["algo-1", "algo-2"], at, job(tmp_path, image, 2), raw)
        for at in range(2)
    ]
    for machine in (one, *two):
        machine.start(network)
        if machine is one:
            assert one.wait() == 0, one.log
    assert [machine.wait() for machine in two] == [0, 0], [machine.log for machine in two]
    assert all(any(machine.output.glob("train/*")) for machine in two)
    check_equal([machine.output for machine in two], one.output)
