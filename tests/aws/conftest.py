"""A moto server: AWS as far as it can be had on this machine, over real HTTP."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from botocore.client import BaseClient

from sm_launch.account import access
from sm_launch.account.policies import Grants
from sm_launch.aws.clients import make_client
from sm_launch.job.instances import Prices, bundled_prices
from sm_launch.sessions import state_directory
from sm_launch.sessions.aws import AwsSession

sys.path.insert(0, str(Path(__file__).parent))

import simulator
from fault_proxy import Proxy, fault_proxy

REGION = "eu-central-1"
ACCOUNT = "123456789012"  # moto's
# A key that moto's IAM takes as the root user's; it opens nothing anywhere.
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}


@pytest.fixture(scope="session")
def moto_url() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def unnamed_owners(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Calls to S3 that do not say whose the bucket must be, though they could."""
    make_request, calls = BaseClient._make_request, []

    def look(self: Any, operation: Any, request: dict[str, Any], context: Any) -> Any:
        takes = operation.input_shape and "ExpectedBucketOwner" in operation.input_shape.members
        header = request["headers"].get("x-amz-expected-bucket-owner")
        if operation.service_model.service_name == "s3" and takes and header != ACCOUNT:
            calls.append(f"{operation.name}: {header}")
        return make_request(self, operation, request, context)

    monkeypatch.setattr(BaseClient, "_make_request", look)
    return calls


@pytest.fixture(scope="session")
def price_list() -> None:
    """Of today, as it was read from AWS: moto has no service of prices."""
    rates = bundled_prices().training
    prices = Prices(rates, rates, REGION, date.today().isoformat())
    path = state_directory() / "prices" / f"{REGION}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(prices)))
    path.with_name(f"{REGION}-spot-{date.today()}.json").write_text('{"ml.m5.large": 0.4}')


PROJECT = Path(__file__).resolve().parents[2]
SET_UP = ("sm_launch/account/access.py", "sm_launch/account/stacks.py")
# Data of others, which `setup --read` names.
ELSEWHERE = ("data", "runs", "public-data", "far-bucket", "models", "theirs", "my-bucket/raw",
             "my-bucket/cap")  # fmt: skip


def asked_by() -> str:
    """The file of ours or of the tests that a call comes from; empty in a thread of boto3's."""
    frame = sys._getframe(2)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(PROJECT) and "site-packages" not in path.parts:
            return path.relative_to(PROJECT).as_posix()
        frame = frame.f_back
    return ""


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[simulator.Call]]:
    """Every call that the launcher makes, as service, operation and request.

    Who launches may make them by the policy that `setup` makes, and the roles cover what they ask
    for. `setup` itself needs an administrator.
    """
    make_call, made = BaseClient._make_api_call, []

    def keep(self: Any, operation: str, request: dict[str, Any]) -> Any:
        asked = asked_by()
        if not asked.startswith(("tests/", *SET_UP)):
            made.append((self.meta.service_model.service_name, operation, request))
        return make_call(self, operation, request)

    monkeypatch.setattr(BaseClient, "_make_api_call", keep)
    yield made
    keys = [request["KeyId"] for service, _, request in made if service == "kms"]
    read = tuple(f"s3://{place}" for place in ELSEWHERE)
    grants = Grants(read=read, kms_key=next((key for key in keys if key.startswith("arn:")), None))
    assert simulator.refused(access.template("my-bucket", grants), made) == []


@pytest.fixture
def aws(
    moto_url: str,
    price_list: None,
    unnamed_owners: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[str]:
    """Credentials and an endpoint that lead to a fresh moto; every call to S3 is looked at."""
    import httpx

    httpx.post(f"{moto_url}/moto-api/reset", timeout=60).raise_for_status()
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto_url)
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    monkeypatch.setenv(
        "NO_PROXY", ",".join(filter(None, [os.environ.get("NO_PROXY"), "127.0.0.1"]))
    )
    yield moto_url
    assert unnamed_owners == []


JOB = """
name: mine
target: sagemaker
training:
  model: org/tiny
  image: 123456789012.dkr.ecr.eu-central-1.amazonaws.com/sm-train:1
  channels: {train: data}
  instances: {type: ml.m5.large}
endpoint:
  image: 123456789012.dkr.ecr.eu-central-1.amazonaws.com/sm-serve:1
  instances: {type: ml.m5.large}
aws:
  bucket: my-bucket
  training_role: arn:aws:iam::123456789012:role/TrainingRole
"""


@pytest.fixture
def proxy(aws: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    monkeypatch.chdir(tmp_path)
    Path("job.yaml").write_text(JOB)
    Path("data").mkdir()
    for part in range(4):
        Path(f"data/{part}.jsonl").write_text(f'{{"text": "good {part}", "label": "pos"}}\n')
    where = {"LocationConstraint": "eu-central-1"}
    make_client("s3").create_bucket(Bucket="my-bucket", CreateBucketConfiguration=where)
    # Waiting is what production is for.
    monkeypatch.setattr("sm_launch.aws.clients.MAX_ATTEMPTS", 2)

    def make_client_of_two(service: str, region: str | None = None, **options: Any) -> Any:
        return make_client(service, region, **{**options, "attempts": 2})

    for module in ("aws.clients", "hosting.autoscaling", "monitoring.alarms", "sessions.aws"):
        monkeypatch.setattr(f"sm_launch.{module}.make_client", make_client_of_two)
    monkeypatch.setattr(AwsSession.__init__, "__kwdefaults__",
                        {"clients": make_client_of_two, "sleep": lambda seconds: None})  # fmt: skip
    monkeypatch.setattr(AwsSession, "seconds_between_looks", 0.05)
    with fault_proxy(aws) as running:
        monkeypatch.setenv("AWS_ENDPOINT_URL", running.url)
        yield running
