"""The serving image under the SDK's local mode, and as a platform would start it by hand."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import shutil
import subprocess
import time

import httpx
import pytest
from local_containers import containers_of, docker
from serving_models import script

from sm_launch.sessions.docker import DockerSession

# The first test of a run builds the images too.
pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(1500)]

ROLE = "arn:aws:iam::000000000000:role/sm-launch-local"
LABELS = {"negative", "neutral", "positive"}
SLOW = """
import time

def model_fn(model_dir):
    return None

def transform_fn(model, data, content_type, accept):
    time.sleep(float(data))
    return data
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def session(home, built, classifier_dir):
    """A session whose endpoint `sentiment` is in service."""
    session = DockerSession(home)
    source = {"S3Uri": f"{classifier_dir.as_uri()}/", "S3DataType": "S3Prefix"}
    container = {
        "Image": built["sm-serve"].uri,
        "ModelDataSource": {"S3DataSource": {**source, "CompressionType": "None"}},
    }
    variant = {"VariantName": "AllTraffic", "ModelName": "tiny", "InstanceType": "ml.m5.large",
               "InitialInstanceCount": 1}  # fmt: skip
    session.create_model(ModelName="tiny", PrimaryContainer=container, ExecutionRoleArn=ROLE)
    session.create_endpoint_config(EndpointConfigName="tiny", ProductionVariants=[variant])
    session.create_endpoint(EndpointName="sentiment", EndpointConfigName="tiny")
    try:
        while (seen := session.describe_endpoint(EndpointName="sentiment"))[
            "EndpointStatus"
        ] == "Creating":
            time.sleep(0.3)
        log = "\n".join(session.endpoint_log_lines("sentiment")[0])
        assert seen["EndpointStatus"] == "InService", f"{seen.get('FailureReason')}\n{log}"
        yield session
    finally:
        session.delete_endpoint(EndpointName="sentiment")
    deadline = time.monotonic() + 30
    while containers_of(home):
        assert time.monotonic() < deadline, "deleting an endpoint leaves its container behind"
        time.sleep(0.2)


def parse_json(body: str) -> list:
    return json.loads(body)


def parse_lines(body: str) -> list:
    return [json.loads(line) for line in body.splitlines()]


def parse_csv(body: str) -> list:
    rows = (line.split(",") for line in body.splitlines())
    return [{"label": label, "score": float(score)} for label, score in rows]


@pytest.mark.parametrize(
    ("content_type", "body", "parse"),
    [
        ("application/json", '{"inputs": ["good", "café bad"]}', parse_json),
        ("application/json; charset=utf-8", '{"inputs": ["good", "café bad"]}', parse_json),
        ("application/jsonlines", '{"inputs": "good"}\n{"text": "café bad"}\n', parse_lines),
        ("text/csv", "text\ngood\ncafé bad\n", parse_csv),
        ("text/csv; charset=utf-8", "good\ncafé bad\n", parse_csv),
    ],
)
def test_every_content_type_gets_the_same_answer(session, content_type, body, parse):
    def ask(content_type, body):
        answer = session.invoke_endpoint(
            EndpointName="sentiment", ContentType=content_type, Body=body.encode()
        )
        return answer["ContentType"], answer["Body"].read().decode()

    answered, text = ask(content_type, body)
    assert answered.partition(";")[0] == content_type.partition(";")[0]
    answers = parse(text)
    # The plain texts one by one, in another charset than the rest.
    for entry, expected in zip(answers, ["good", "café bad"], strict=True):
        answer = session.invoke_endpoint(
            EndpointName="sentiment",
            ContentType="text/plain; charset=latin-1",
            Accept="application/json",
            Body=expected.encode("latin-1"),
        )
        alone = json.loads(answer["Body"].read())[0]
        assert entry["label"] == alone["label"]
        assert entry["label"] in LABELS
        assert entry["score"] == pytest.approx(alone["score"], abs=1e-5)


def test_the_model_directory_is_read_only(session, home):
    command = ["docker", "exec", containers_of(home)[0], "touch", "/opt/ml/model/new"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode
    assert "Read-only file system" in answer.stderr


def test_a_bad_body_is_the_clients_error(session):
    with pytest.raises(Exception, match="400") as caught:
        session.invoke_endpoint(EndpointName="sentiment", ContentType="application/json", Body=b"{")
    assert caught.value.response["Error"]["Code"] == "ModelError"


def test_a_batch_transform_runs_in_a_container_of_its_own(session, home, tmp_path):
    """The model of the endpoint over two files: one without and one with a bad record."""
    (tmp_path / "input").mkdir()
    (tmp_path / "input" / "rows.jsonl").write_text('{"inputs": "good"}\n{"text": "café bad"}\n')
    (tmp_path / "input" / "broken.jsonl").write_text('{"inputs": \n')
    source = {"S3DataType": "S3Prefix", "S3Uri": (tmp_path / "input").as_uri()}
    session.create_transform_job(
        TransformJobName="batch",
        ModelName="tiny",
        TransformInput={"DataSource": {"S3DataSource": source}, "SplitType": "Line",
                        "ContentType": "application/jsonlines"},
        TransformOutput={"S3OutputPath": (tmp_path / "output").as_uri(), "AssembleWith": "Line",
                         "Accept": "application/jsonlines"},
        TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 1},
    )  # fmt: skip

    def state():
        return session.describe_transform_job(TransformJobName="batch")

    environment = ""
    while state()["TransformJobStatus"] == "InProgress":
        if "SAGEMAKER_BATCH" not in environment:
            listed = "{{range .Config.Env}}{{println .}}{{end}}"
            # One that ended meanwhile is an error, and there is the next round.
            command = ["docker", "inspect", "--format", listed, *containers_of(home)]
            answer = subprocess.run(command, capture_output=True, text=True, check=False)
            environment = answer.stdout
        time.sleep(0.5)
    log = "\n".join(session.transform_log_lines("batch")[0])
    assert "SAGEMAKER_BATCH=true" in environment
    assert state()["TransformJobStatus"] == "Failed", log
    assert "broken.jsonl: the model refused" in state()["FailureReason"]
    lines = (tmp_path / "output" / "rows.jsonl.out").read_text().splitlines()
    assert [json.loads(line)["label"] in LABELS for line in lines] == [True, True]
    assert not (tmp_path / "output" / "broken.jsonl.out").exists()
    assert len(containers_of(home)) == 1, "only the endpoint's is left"


def test_an_endpoint_moves_to_another_configuration_and_goes_on_answering(session, home):
    before = containers_of(home)
    described = session.describe_endpoint_config(EndpointConfigName="tiny")
    (variant,) = described["ProductionVariants"]
    variants = [{**variant, "VariantName": "Next"}]
    session.create_endpoint_config(EndpointConfigName="next", ProductionVariants=variants)
    session.update_endpoint(EndpointName="sentiment", EndpointConfigName="next")
    ask = {"EndpointName": "sentiment", "ContentType": "application/json",
           "Body": b'{"inputs": "good"}'}  # fmt: skip
    seen = set()
    deadline = time.monotonic() + 120
    while session.describe_endpoint(EndpointName="sentiment")["EndpointStatus"] == "Updating":
        seen.add(session.invoke_endpoint(**ask)["InvokedProductionVariant"])
        assert time.monotonic() < deadline
        time.sleep(0.2)
    description = session.describe_endpoint(EndpointName="sentiment")
    assert description["EndpointStatus"] == "InService"
    assert "FailureReason" not in description
    assert session.invoke_endpoint(**ask)["InvokedProductionVariant"] == "Next"
    assert "AllTraffic" in seen
    after = containers_of(home)
    assert len(after) == 1
    assert after != before


@contextlib.contextmanager
def running(image, model, port, *options):
    """Id and address of a server in a container of its own, started by hand."""
    name = docker(
        "run", "--detach", *options, "--publish", f"127.0.0.1::{port}",
        "--volume", f"{model}:/opt/ml/model:ro", image.uri, "serve",
    )  # fmt: skip
    try:
        yield name, "http://" + docker("port", name, f"{port}/tcp").splitlines()[0]
    finally:
        docker("rm", "--force", name)


@pytest.fixture
def slow_server(tmp_path, built):
    """A server that runs as nobody in particular, on a port it was told."""
    script(tmp_path / "model", SLOW)
    told = ("--user", "1000", "--env", "SAGEMAKER_BIND_TO_PORT=9090")
    with running(built["sm-serve"], tmp_path / "model", 9090, *told) as server:
        yield server


def ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/ping").status_code == 200
    except httpx.TransportError:
        return False


def test_sigterm_answers_what_is_in_flight_and_ends_with_0(slow_server):
    name, url = slow_server
    deadline = time.monotonic() + 60
    while not ready(url):
        assert time.monotonic() < deadline, docker("logs", name)
        time.sleep(0.1)
    assert docker("exec", name, "id", "-u") == "1000"
    with concurrent.futures.ThreadPoolExecutor() as pool:
        # Long enough to be still under way when the signal comes.
        answer = pool.submit(httpx.post, f"{url}/invocations", content=b"2", timeout=30)
        time.sleep(0.7)
        docker("kill", "--signal", "TERM", name)
        assert answer.result().text == "2"
    assert docker("wait", name) == "0"


@pytest.fixture(params=["classifier_dir", "language_model_dir"])
def locked_down(request, built, tmp_path):
    """A server that may write nowhere and has no privilege."""
    model = tmp_path / "model"
    shutil.copytree(request.getfixturevalue(request.param), model)
    for path in (model, *model.rglob("*")):
        path.chmod(path.stat().st_mode | 0o055)
    locks = ("--user", "1000:1000", "--read-only", "--cap-drop", "ALL",
             "--security-opt", "no-new-privileges")  # fmt: skip
    with running(built["sm-serve"], model, 8080, *locks) as server:
        yield server


def test_weights_that_the_user_may_not_read_are_named(built, classifier_dir, tmp_path):
    shutil.copytree(classifier_dir, tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    weights.chmod(0o600)
    command = ["docker", "run", "--rm", "--user", "4711",
               "--volume", f"{weights.parent}:/opt/ml/model:ro",
               built["sm-serve"].uri, "serve"]  # fmt: skip
    answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert answer.returncode == 1
    assert (
        "model.safetensors cannot be read by user 4711 (mode 600): run chmod a+r" in answer.stderr
    )


def test_it_serves_with_a_read_only_root_and_no_privilege(locked_down):
    name, url = locked_down
    deadline = time.monotonic() + 90
    while not ready(url):
        assert docker("inspect", "--format", "{{.State.Running}}", name) == "true", docker(
            "logs", name
        )
        assert time.monotonic() < deadline, docker("logs", name)
        time.sleep(0.1)
    answer = httpx.post(f"{url}/invocations", json={"inputs": "good"}, timeout=30)
    assert answer.status_code == 200, answer.text
    (first,) = answer.json()[:1]
    assert first.get("label") in LABELS or first["generated_text"]
