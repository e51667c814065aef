"""Every command and its Python function ask the same of AWS, and tell the same."""

from __future__ import annotations

import inspect
import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import botocore.client
import botocore.loaders
import click
import pytest
from command_tree import leaves

import sm_launch
from sm_launch import cli, images
from sm_launch.job.limits import TAG_KEY

pytestmark = pytest.mark.slow

NOW = datetime(2030, 1, 1, tzinfo=UTC)
ECR = "111122223333.dkr.ecr.eu-west-1.amazonaws.com"
JOB = f"""
name: m
target: sagemaker
data: {{input: raw.csv, columns: {{text: text, label: label}}}}
training:
  model: org/base-100M
  image: {ECR}/sm-train:1
  channels: {{train: s3://b/train/}}
  instances: {{type: ml.g5.xlarge}}
endpoint: {{image: "{ECR}/sm-serve:1", instances: {{type: ml.m5.large}}}}
sweep: {{parameters: {{learning_rate: [1.0e-5, 1.0e-4]}}, strategy: grid, objective: "eval:loss"}}
aws: {{region: eu-west-1, training_role: "arn:aws:iam::111122223333:role/r", bucket: my-bucket}}
"""
MODEL = ["--model-data", "s3://b/m.tar.gz"]
HELD_OUT = "evaluation.data=s3://b/test/"
SPOKEN = b'data: {"choices": [{"delta": {"content": "hello"}}]}\n\ndata: [DONE]\n\n'
VARIANT = {"VariantName": "a", "ModelName": "m-1", "CurrentWeight": 1.0, "CurrentInstanceCount": 1}
# What the service answers where the smallest answer of its model would not do.
FIGURES = {
    "bytes": 1.0, "memory_bytes": 1.0, "latency_p50_ms": 1.0, "latency_p99_ms": 1.0,
    "texts_per_second": 1.0, "accuracy": 0.5,
}  # fmt: skip
SCORED = {
    "optimization": {
        "before": FIGURES, "after": FIGURES, "metric": "accuracy", "rows": 1, "split": "test",
        "max_drop": 0.1, "processor": "p", "threads": 1,
    }
}  # fmt: skip
# Beside the model of a job: its record.
RECORD = {"version": 1, "weights": {}} | {
    part: {} for part in ("data", "results", "hyperparameters", "versions", "machine")
}
ANSWERS: dict[str, Callable[[], dict[str, Any]]] = {
    "DescribeTrainingJob": lambda: {
        "TrainingJobStatus": "Completed",
        "ModelArtifacts": {"S3ModelArtifacts": "s3://b/jobs/m/output/model/"},
    },
    "DescribeTransformJob": lambda: {"TransformJobStatus": "Completed"},
    "DescribeProcessingJob": lambda: {"ProcessingJobStatus": "Completed"},
    "DescribeHyperParameterTuningJob": lambda: {
        "HyperParameterTuningJobStatus": "Completed",
        "HyperParameterTuningJobConfig": {
            "HyperParameterTuningJobObjective": {"Type": "Minimize", "MetricName": "eval:loss"},
            "ResourceLimits": {"MaxParallelTrainingJobs": 1},
        },
    },
    "DescribeEndpoint": lambda: {
        "EndpointStatus": "InService",
        "EndpointConfigName": "m-1",
        "ProductionVariants": [VARIANT],
    },
    "DescribeEndpointConfig": lambda: {"ProductionVariants": [VARIANT]},
    "DescribeModel": lambda: {"PrimaryContainer": {"ModelDataUrl": "s3://b/none.tar.gz"}},
    "CreatePipeline": lambda: {"PipelineArn": "arn:p"},
    "ListTags": lambda: {"Tags": [{"Key": TAG_KEY, "Value": "m"}]},
    "ListEndpoints": lambda: {"Endpoints": []},
    "GetCallerIdentity": lambda: {"Account": "111122223333", "Arn": "arn:u"},
    "GetRole": lambda: {"Role": {"AssumeRolePolicyDocument": {}}},
    "GetObject": lambda: {"Body": io.BytesIO(json.dumps(SCORED | RECORD).encode())},
    "InvokeEndpoint": lambda: {
        "Body": io.BytesIO(b'[{"label": "b", "score": 1.0}]'),
        "ContentType": "application/json",
    },
    "InvokeEndpointWithResponseStream": lambda: {"Body": [{"PayloadPart": {"Bytes": SPOKEN}}]},
    "DescribeStacks": lambda: {
        "Stacks": [{"StackStatus": "CREATE_COMPLETE", "Outputs": [
            {"OutputKey": key, "OutputValue": key.lower()}
            for key in ("Bucket", "TrainingRole", "HostingRole")
        ]}]
    },
}  # fmt: skip
LOADER = botocore.loaders.create_loader()
READS = ("Describe", "List", "Get", "Head", "Invoke")


@dataclass(frozen=True)
class Verb:
    """A command with its words, the function, and how `--json` shows what that returns."""

    arguments: list[str]
    call: Callable[[], Any]
    shown: Callable[[Any], Any] | None = lambda result: result
    answers: dict[str, Any] = field(default_factory=dict)
    dry_run: bool = False


def said(*names: str) -> Callable[[Any], Any]:
    """The result stands in the printed object under these names."""
    return lambda result: dict.fromkeys(names, result)


RUNNING = {"DescribeTrainingJob": {"TrainingJobStatus": "InProgress"}}
QUEUED = {
    "DescribeEndpoint": {"AsyncInferenceConfig": {"OutputConfig": {"S3OutputPath": "s3://b/o"}}},
    "InvokeEndpointAsync": {"OutputLocation": "s3://b/o/1"},
}
RECORDED = {
    "DescribeTrainingJob": {
        "TrainingJobName": "m",
        "AlgorithmSpecification": {"TrainingInputMode": "File"},
        "OutputDataConfig": {"S3OutputPath": "s3://b/jobs"},
        "ResourceConfig": {"VolumeSizeInGB": 1},
        "RoleArn": "arn:aws:iam::111122223333:role/r",
    },
}
VERBS: dict[str, Verb] = {
    "data prepare": Verb([], sm_launch.prepare, lambda r: r.as_dict()),
    "data prepare --processing-job": Verb(
        [], lambda: sm_launch.prepare_on_sagemaker(), said("channels"), dry_run=True
    ),
    "data validate": Verb([], sm_launch.validate, lambda r: {"valid": True} | r.as_dict()),
    "data inspect": Verb([], sm_launch.inspect, lambda r: [each.as_dict() for each in r]),
    "data upload": Verb([], sm_launch.upload, said("channels")),
    "train": Verb([], sm_launch.train, dry_run=True),
    "reproduce": Verb(
        ["m"], lambda: sm_launch.reproduce("m"), lambda r: r.as_dict(), RECORDED, dry_run=True
    ),
    "optimize": Verb(
        [*MODEL, "--set", HELD_OUT],
        lambda: sm_launch.optimize(model_data=MODEL[1], overrides=[HELD_OUT]),
        lambda r: r.as_dict(), dry_run=True,
    ),
    "sweep": Verb([], sm_launch.sweep, lambda r: r.as_dict(), dry_run=True),
    "deploy": Verb(
        MODEL, lambda: sm_launch.deploy(model_data=MODEL[1]), dry_run=True
    ),
    "weights": Verb(
        ["m", "a=1"], lambda: sm_launch.weights("m", {"a": 1}),
        lambda r: {"endpoint": "m", "variants": r}, dry_run=True,
    ),
    "transform": Verb(
        ["s3://b/x.csv", *MODEL],
        lambda: sm_launch.transform("s3://b/x.csv", model_data=MODEL[1]), dry_run=True,
    ),
    "invoke": Verb(
        ["m", "--text", "x"], lambda: sm_launch.invoke("m", "x"),
        lambda r: {"endpoint": "m", "answer": r},
    ),
    "invoke --stream": Verb(
        ["m", "--text", "x"], lambda: "".join(sm_launch.invoke("m", "x", stream=True)),
        lambda r: {"endpoint": "m", "answer": r},
    ),
    "invoke --async": Verb(
        ["m", "--text", "x"], lambda: sm_launch.invoke("m", "x", queued=True),
        lambda r: {"endpoint": "m", "answer": r}, QUEUED,
    ),
    "chat": Verb(["m"], lambda: list(sm_launch.chat("m").ask("hello")), None),
    "evaluate": Verb(
        ["--data", "rows.jsonl", "--endpoint", "m"],
        lambda: sm_launch.evaluate(data="rows.jsonl", endpoint="m"), None,
    ),
    "register": Verb(
        [*MODEL, "--without-evaluation"],
        lambda: sm_launch.register(model_data=MODEL[1], without_evaluation=True), dry_run=True,
    ),
    "pipeline": Verb([], sm_launch.pipeline, dry_run=True),
    "status": Verb([], sm_launch.status),
    "schedule": Verb(
        ["rate(7 days)", "--set", "aws.scheduler_role=arn:aws:iam::111122223333:role/s"],
        lambda: sm_launch.schedule(
            "rate(7 days)", overrides=["aws.scheduler_role=arn:aws:iam::111122223333:role/s"]
        ),
        answers={"GetSchedule": {"Description": "sm-launch: m"}}, dry_run=True,
    ),
    "schedule --off": Verb(
        [], lambda: sm_launch.schedule(off=True),
        answers={"GetSchedule": {"Description": "sm-launch: m"}},
    ),
    "compare": Verb(
        ["one", "two", "--data", "rows.jsonl"],
        lambda: sm_launch.compare("one", "two", data="rows.jsonl"), lambda r: r.to_dict(),
    ),
    "monitor": Verb(["m"], lambda: sm_launch.monitor("m"), lambda r: r.as_dict()),
    "alarms": Verb([], sm_launch.alarms, dry_run=True),
    "alarms --show": Verb([], lambda: sm_launch.alarms(show=True)),
    "alarms --delete": Verb([], lambda: sm_launch.alarms(delete=True)),
    "dashboard": Verb([], sm_launch.dashboard, dry_run=True),
    "list": Verb([], sm_launch.list_),
    "logs": Verb(["m"], lambda: list(sm_launch.logs("m")), lambda r: {"name": "m", "lines": r}),
    "stop --no-wait": Verb(["m"], lambda: sm_launch.stop("m"), answers=RUNNING),
    "stop": Verb(["m"], lambda: sm_launch.stop("m", wait=True)),
    "delete": Verb(
        ["m", "--yes"], lambda: sm_launch.delete("m"),
        lambda r: {"deleted": r, "left": [], "missing": []},
    ),
    "setup": Verb(["--yes"], sm_launch.setup),
    "doctor": Verb([], sm_launch.doctor, lambda r: [asdict(each) for each in r]),
    "estimate": Verb([], sm_launch.estimate, lambda r: r.as_dict()),
    "gc": Verb(
        ["--older-than", "3d", "--yes"],
        lambda: sm_launch.gc(older_than=timedelta(days=3), delete=True),
    ),
}  # fmt: skip
# Commands that ask nothing of AWS by themselves: the function of `sm_launch.images` behind each.
OF_IMAGES: dict[str, tuple[list[str], str, dict[str, Any]]] = {
    "images build": ([], "build", {"flavor": "cpu"}),
    "images push": ([], "push", {"flavor": "cpu", "region": "eu-west-1"}),
    "images scan": ([], "scan", {"flavor": "cpu", "region": "eu-west-1"}),
    "images list": ([], "list_images", {"region": "eu-west-1"}),
    "images audit": ([], "audit", {"flavor": "cpu"}),
    "images pin-bases": ([], "pin_bases", {}),
    "images flash-attn-wheel": ([], "build_wheel", {}),
}
# What only a terminal wants, and what runs the training container (tested with one).
TERMINAL = {"init", "completion"}
WITH_A_CONTAINER = {"data preview"}


class Service:
    """Answers every call of every client, and keeps what was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str, Any]] = []
        self.answers: dict[str, Any] = {}
        self.running = ""

    def call(self, client: Any, operation: str, params: dict[str, Any]) -> Any:
        meta = client.meta
        told = meta.service_model.service_name, meta.region_name, operation
        self.asked.append((*told, plain(params)))
        if operation == "CreateEndpoint":
            self.running = params["EndpointConfigName"]
        shape = meta.service_model.operation_model(operation).output_shape
        answer = smallest(shape) if shape else {}
        answer |= ANSWERS.get(operation, dict)() | self.answers.get(operation, {})
        if operation == "DescribeEndpoint" and self.running:
            answer["EndpointConfigName"] = self.running
        return answer

    def changes(self) -> list[Any]:
        """The requests that change something."""
        return [each for *_, operation, each in self.asked if not operation.startswith(READS)]


def smallest(shape: Any) -> Any:
    """An answer with the required members only, each as small as it can be."""
    if shape.type_name == "structure":
        names = shape.required_members or [
            name for name, member in shape.members.items() if member.type_name == "list"
        ]
        return {name: smallest(shape.members[name]) for name in names}
    simple = {"list": [], "map": {}, "boolean": False, "timestamp": NOW, "blob": b""}
    if shape.type_name in simple:
        return simple[shape.type_name]
    if shape.type_name in {"integer", "long", "float", "double"}:
        return 1
    return (shape.metadata.get("enum") or ["x"])[0]


def plain(value: Any) -> Any:
    """As JSON, without what differs from one run to the next: times, and random names."""
    text = json.dumps(
        value, default=lambda each: "TIME" if isinstance(each, datetime) else str(each)
    )
    text = re.sub(r"\d{8}-\d{6}-\d{3}", "STAMP", text)
    text = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "UUID", text)
    text = re.sub(r'("seconds"): [0-9.e-]+', r"\1: 0", text)
    text = re.sub(r"/tmp/[^\"]*", "DIRECTORY", text)
    text = re.sub(r"20\d\d-\d\d-\d\d[ T][0-9:.+]+", "TIME", text)
    document = json.loads(text)
    if isinstance(document, dict) and isinstance(document.get("DashboardBody"), str):
        document["DashboardBody"] = json.loads(document["DashboardBody"])
    return document


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    for name, value in {
        "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_DEFAULT_REGION": "us-east-1",
        "SM_LAUNCH_HOME": str(tmp_path / "home"),
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sm_launch.account.stacks.PROPAGATION_SECONDS", 0.0)
    Path("job.yaml").write_text(JOB)
    Path("rows.jsonl").write_text('{"text": "a", "label": "b"}\n{"text": "c", "label": "b"}\n')
    lines = [f"review {n},{'good' if n % 2 else 'bad'}" for n in range(20)]
    Path("raw.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    told = Service()
    # The service models are read once, not for every client.
    monkeypatch.setattr("botocore.session.create_loader", lambda *_: LOADER)
    monkeypatch.setattr(
        botocore.client.BaseClient, "_make_api_call",
        lambda client, operation, params: told.call(client, operation, params),
    )  # fmt: skip
    yield told


def run(arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: Any) -> str:
    """Run a command line; its standard output."""
    monkeypatch.setattr("sys.stdin", io.StringIO("hello\n"))
    capsys.readouterr()
    code = cli.run(arguments)
    told = capsys.readouterr()
    assert code == 0 or arguments[0] == "doctor", told.err  # which may find something
    return str(told.out)


@pytest.mark.parametrize("name", VERBS)
def test_a_command_and_its_function_ask_and_tell_the_same(
    name: str, service: Service, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    verb = VERBS[name]
    service.answers = verb.answers
    if name == "data upload":
        sm_launch.prepare()
    json_ = [] if name == "chat" else ["--json"]
    printed = run([*name.split(), *verb.arguments, *json_], monkeypatch, capsys)
    by_command, service.asked, service.running = service.asked, [], ""
    result = verb.call()
    assert service.asked == by_command
    if verb.shown is None:
        return
    wanted, told = plain(verb.shown(result)), plain(json.loads(printed))
    if isinstance(told, dict):
        told = {key: told[key] for key in wanted}
    assert told == wanted


@pytest.mark.parametrize("name", [name for name, verb in VERBS.items() if verb.dry_run])
def test_a_dry_run_shows_what_is_asked_for_and_changes_nothing(
    name: str, service: Service, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    verb = VERBS[name]
    service.answers = verb.answers
    shown = json.loads(run([*name.split(), *verb.arguments, "--dry-run"], monkeypatch, capsys))
    assert service.changes() == []
    verb.call()
    for request in requests_in(shown):
        assert plain(request) in service.changes()


def requests_in(shown: Any) -> list[Any]:
    """The requests that a dry run prints: one, a list, or by the client's method."""
    if isinstance(shown, list):
        return shown
    if all(key.islower() for key in shown):
        return [each for value in shown.values() for each in requests_in(value)]
    return [shown]


@pytest.mark.parametrize("name", OF_IMAGES)
def test_a_command_of_images_has_the_defaults_of_its_function(
    name: str, service: Service, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    given_arguments, function, given = OF_IMAGES[name]
    signature = inspect.signature(getattr(images, function))
    seen: list[dict[str, Any]] = []

    def record(*arguments: Any, **named: Any) -> Any:
        bound = signature.bind(*arguments, **named)
        bound.apply_defaults()
        seen.append(bound.arguments)
        empty = {"audit": {"vulnerabilities": [], "skipped": ""}, "scan": {}, "pin_bases": {}}
        return empty.get(function, [])

    monkeypatch.setattr(images, function, record)
    run([*name.split(), *given_arguments], monkeypatch, capsys)
    record(**given)
    assert seen[0] == seen[1]


def test_no_verb_is_forgotten() -> None:
    compared = {name.partition(" --")[0] for name in VERBS} | set(OF_IMAGES)
    assert set(leaves(cli.cli)) == compared | TERMINAL | WITH_A_CONTAINER
    with_dry_run = {
        name
        for name, verb in VERBS.items()
        if any("--dry-run" in option.opts for option in options_of(name))
    }
    other = {"data prepare", "data upload", "gc", "alarms --show",
             "alarms --delete", "schedule --off"}  # fmt: skip
    assert {name for name, verb in VERBS.items() if verb.dry_run} == with_dry_run - other


def options_of(name: str) -> list[click.Parameter]:
    command: click.Command = cli.cli
    for word in name.partition(" --")[0].split():
        assert isinstance(command, click.Group)
        subcommand = command.get_command(click.Context(command), word)
        assert subcommand is not None
        command = subcommand
    return command.params
