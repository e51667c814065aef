"""Every command and every function looks where job.yaml or its options say, and nowhere else."""

from __future__ import annotations

import http.server
import io
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import botocore.loaders
import pytest
from command_tree import leaves

import sm_launch
from sm_launch import cli

pytestmark = pytest.mark.slow

JOB = """
name: m
target: sagemaker
data: {input: s3://b/raw.csv, columns: {text: text, label: label}}
training:
  method: text-classification
  model: org/base
  image: 111122223333.dkr.ecr.eu-west-1.amazonaws.com/sm-train:1
  channels: {train: s3://b/train/}
  instances: {type: ml.m5.large}
endpoint:
  image: 111122223333.dkr.ecr.eu-west-1.amazonaws.com/sm-serve:1
  instances: {type: ml.m5.large}
sweep: {parameters: {learning_rate: [1.0e-5, 1.0e-4]}, strategy: grid, objective: "eval:loss"}
aws: {region: eu-west-1, training_role: "arn:aws:iam::111122223333:role/r", bucket: my-bucket}
"""
NO_IMAGES = ["--set", "training.image=null", "--set", "endpoint.image=null"]
# What each command is given; None: it never looks at a place.
COMMANDS: dict[str, list[str] | None] = {
    "init": None, "completion": None, "images build": None, "images audit": None,
    "images pin-bases": None,
    "images flash-attn-wheel": None, "estimate": ["--parameters", "1e8"], "data preview": None,
    "data prepare": [], "data validate": [], "data inspect": [], "data upload": [],
    "train": [], "sweep": [], "deploy": [], "weights": ["m", "a=1"], "transform": ["s3://b/x.csv"],
    "invoke": ["m", "--text", "x"], "chat": ["m"], "evaluate": ["--data", "rows.jsonl"],
    "compare": ["one", "two", "--data", "rows.jsonl"], "monitor": ["--once"], "alarms": [],
    "dashboard": [], "list": [], "logs": ["m"], "stop": ["m"], "delete": ["m", "--yes"],
    "setup": ["--yes"], "doctor": NO_IMAGES, "gc": ["--dry-run"], "images push": [],
    "optimize": ["--job", "m"], "status": [],
    "register": ["--without-evaluation"], "reproduce": ["m"], "pipeline": [], "schedule": [],
    "images list": ["--registry", "ecr"], "images scan": [],
}  # fmt: skip


LOADER = botocore.loaders.create_loader()


class Aws(http.server.BaseHTTPRequestHandler):
    """Knows who asks, and has nothing; it keeps the region that each request is for."""

    regions: ClassVar[set[str]] = set()
    IDENTITY = (
        b'<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">'
        b"<GetCallerIdentityResult><Arn>arn:aws:iam::111122223333:user/u</Arn><UserId>u</UserId>"
        b"<Account>111122223333</Account></GetCallerIdentityResult></GetCallerIdentityResponse>"
    )

    def answer(self) -> None:
        sent = self.rfile.read(int(self.headers.get("content-length") or 0))
        authorization = self.headers.get("authorization", "")
        match = re.search(r"Credential=[^/]+/\d+/([^/]+)/([^/]+)/", authorization)
        service = match[2] if match else ""
        if priced := re.search(rb'"regionCode", "Value": "([^"]+)"', sent):
            # The price lists of all regions are at one place.
            self.regions.add(priced[1].decode())
        elif match:
            self.regions.add(match[1])
        known = b"GetCallerIdentity" in sent
        code = {"logs": b"ResourceNotFoundException"}.get(service, b"ValidationException")
        body = b'{"__type":"%s","message":"Could not find it"}' % code
        if service in {"s3", "cloudformation", "iam", "monitoring", "sts"}:
            body = b"<Error><Code>NoSuchBucket</Code><Message>no</Message></Error>"
            body = body if service == "s3" else b"<ErrorResponse>%s</ErrorResponse>" % body
        body = self.IDENTITY if known else body
        self.send_response(200 if known else 404 if service == "s3" else 400)
        self.send_header("content-type", "text/xml" if body[:1] == b"<" else "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_HEAD = answer

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Aws)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture
def regions(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    environment = {
        "AWS_ENDPOINT_URL": server,
        "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_DEFAULT_REGION": "us-east-1",
        "NO_PROXY": "127.0.0.1",
        "SM_LAUNCH_HOME": str(tmp_path / "home"),
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    # The service models are read once, not for every client.
    monkeypatch.setattr("botocore.session.create_loader", lambda *_: LOADER)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    Path("job.yaml").write_text(JOB)
    Path("rows.jsonl").write_text('{"text": "a", "label": "b"}\n')

    def push(*_: Any, region: str | None, **__: Any) -> list[Any]:
        Aws.regions.add(str(region))  # pushing needs built images before it asks AWS
        return []

    monkeypatch.setattr("sm_launch.images.push", push)
    Aws.regions.clear()
    return Aws.regions


def images_in(region: str) -> None:
    """The job's images there: those of another region are refused before anything is asked."""
    Path("job.yaml").write_text(JOB.replace("ecr.eu-west-1", f"ecr.{region}"))


def test_no_command_is_forgotten() -> None:
    assert set(leaves(cli.cli)) == set(COMMANDS)


@pytest.mark.parametrize(
    "command", [name for name, arguments in COMMANDS.items() if arguments is not None]
)
def test_a_command_looks_where_it_is_told(command: str, regions: set[str]) -> None:
    arguments = [*command.split(), *(COMMANDS[command] or [])]
    cli.run(arguments)
    assert regions == {"eu-west-1"}
    regions.clear()
    images_in("ap-south-1")
    cli.run([*arguments, "--region", "ap-south-1"])
    assert regions == {"ap-south-1"}


@pytest.mark.parametrize(
    "arguments", [["invoke", "m", "--text", "x"], ["list"], ["gc", "--dry-run"]]
)
def test_without_a_job_the_region_is_an_option(arguments: list[str], regions: set[str]) -> None:
    Path("job.yaml").unlink()
    cli.run([*arguments, "--region", "ap-south-1"])
    assert regions == {"ap-south-1"}


FUNCTIONS: dict[str, Callable[..., Any] | None] = {
    "load": None,
    "preview": None,  # always a process of this machine
    "estimate": lambda **o: priced(sm_launch.estimate(parameters=1e8, **o)),
    "prepare": lambda **o: sm_launch.prepare(**o),
    "prepare_on_sagemaker": lambda **o: sm_launch.prepare_on_sagemaker(**o),
    "validate": lambda **o: sm_launch.validate(**o),
    "inspect": lambda **o: sm_launch.inspect(**o),
    "upload": lambda **o: sm_launch.upload(**o),
    "train": lambda **o: sm_launch.train(**o),
    "reproduce": lambda **o: sm_launch.reproduce("m", **o),
    "sweep": lambda **o: sm_launch.sweep(**o),
    "optimize": lambda **o: sm_launch.optimize(training_job="m", **o),
    "transform": lambda **o: sm_launch.transform("s3://b/x.csv", **o),
    "chat": lambda **o: sm_launch.chat("m", **o),
    "monitor": lambda **o: sm_launch.monitor("m", **o),
    "alarms": lambda **o: sm_launch.alarms(**o),
    "dashboard": lambda **o: sm_launch.dashboard(**o),
    "list_": lambda **o: sm_launch.list_(**o),
    "status": lambda **o: sm_launch.status(**o),
    "logs": lambda **o: sm_launch.logs("m", **o),
    "setup": lambda **o: sm_launch.setup(**o),
    "doctor": lambda **o: require_ok(sm_launch.doctor(without_images(), **o)),
    "gc": lambda **o: sm_launch.gc(**o),
    "deploy": lambda **o: sm_launch.deploy(**o),
    "pipeline": lambda **o: sm_launch.pipeline(**o),
    "schedule": lambda **o: sm_launch.schedule(**o),
    "register": lambda **o: sm_launch.register(without_evaluation=True, **o),
    "invoke": lambda **o: sm_launch.invoke("m", "x", **o),
    "evaluate": lambda **o: sm_launch.evaluate(data="rows.jsonl", **o),
    "weights": lambda **o: sm_launch.weights("m", {"a": 1}, **o),
    "compare": lambda **o: sm_launch.compare("one", "two", data="rows.jsonl", **o),
    "stop": lambda **o: sm_launch.stop("m", **o),
    "delete": lambda **o: sm_launch.delete("m", **o),
}


def without_images() -> Any:
    """The job; an image's registry is asked where the image is."""
    return sm_launch.load("job.yaml", NO_IMAGES[1::2])


def priced(estimate: Any) -> None:
    assert "was not read" not in estimate.prices


def require_ok(checks: list[Any]) -> None:
    assert all(check.state == "ok" for check in checks)


def test_no_function_is_forgotten() -> None:
    assert {name for name in sm_launch.__all__ if name[0].islower()} == set(FUNCTIONS)


@pytest.mark.parametrize("name", [name for name, call in FUNCTIONS.items() if call])
def test_a_function_looks_where_it_is_told(name: str, regions: set[str]) -> None:
    call = FUNCTIONS[name]
    assert call is not None
    for options, expected in (({}, "eu-west-1"), ({"region": "ap-south-1"}, "ap-south-1")):
        regions.clear()
        images_in(expected)
        with pytest.raises(Exception):  # noqa: B017  (nothing is there: every call fails)
            call(**options)
        if name != "upload":  # which finds nothing prepared before it asks
            assert regions == {expected}


def test_what_is_not_there_is_said_with_the_place(
    regions: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in (
        ["delete", "--yes"],
        ["delete", "other", "--yes"],
        ["stop", "m"],
        ["logs", "m"],
    ):
        assert cli.run(arguments) == 1
        assert "sagemaker in eu-west-1" in capsys.readouterr().err
        assert cli.run([*arguments, "--target", "process"]) == 1
        assert "(process)" in capsys.readouterr().err
