"""Endpoints over a real HTTP server: creation, invocation, failure, removal."""

import json
import os
import signal
import socket
import tarfile
import threading
import time
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from sm_launch.sessions.process.base import Settings
from sm_launch.sessions.process.hosting import serving_process

from .conftest import ROLE, make_config, wait_for, wait_for_endpoint

pytestmark = pytest.mark.slow


def process_field(pid, index):
    """Field of /proc/PID/stat behind the command's name: 0 is the state, 1 the parent."""
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[index]


def gone(pid):
    try:
        return process_field(pid, 0) == "Z"
    except FileNotFoundError:
        return True


def test_an_endpoint_answers_and_is_freed(session, deploy):
    deploy(start_seconds=0.5)
    assert session.describe_endpoint(EndpointName="endpoint")["EndpointStatus"] == "Creating"
    description = wait_for_endpoint(session, "endpoint")
    assert description["ProductionVariants"][0]["VariantName"] == "AllTraffic"
    assert "port" not in description

    response = session.invoke_endpoint(
        EndpointName="endpoint",
        Body=b'{"inputs": "good"}',
        ContentType="application/json; charset=utf-8",
        Accept="application/json",
        CustomAttributes="route=/v1/x",
        InferenceId="id-1",
    )
    seen = json.loads(response["Body"].read())
    assert response["InvokedProductionVariant"] == "AllTraffic"
    assert response["CustomAttributes"] == "from=server"
    assert response["ContentType"] == "application/json"
    assert seen["body"] == '{"inputs": "good"}'
    assert seen["headers"]["content-type"] == "application/json; charset=utf-8"
    assert seen["headers"]["x-amzn-sagemaker-custom-attributes"] == "route=/v1/x"
    assert seen["headers"]["x-amzn-sagemaker-inference-id"] == "id-1"
    assert seen["environment"]["GREETING"] == "hello"

    session.delete_endpoint(EndpointName="endpoint")
    wait_for(lambda: not session.list_endpoints()["Endpoints"])
    assert gone(seen["pid"])
    with pytest.raises(ClientError, match="Could not find endpoint"):
        session.describe_endpoint(EndpointName="endpoint")
    with pytest.raises(ClientError, match="Could not find endpoint"):
        session.delete_endpoint(EndpointName="endpoint")
    wait_for(lambda: not list((session._store.home / "endpoints").iterdir()))


def test_the_environment_holds_no_credentials(session, deploy, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    deploy()
    wait_for_endpoint(session, "endpoint")
    seen = json.loads(session.invoke_endpoint(EndpointName="endpoint", Body="x")["Body"].read())
    assert not {"AWS_SECRET_ACCESS_KEY", "PYTHONPATH"} & set(seen["environment"])
    assert seen["environment"]["SAGEMAKER_BIND_TO_PORT"] in session.endpoint_url("endpoint")


def test_a_stream_arrives_in_parts(session, deploy):
    deploy()
    wait_for_endpoint(session, "endpoint")
    response = session.invoke_endpoint_with_response_stream(EndpointName="endpoint", Body=b"stream")
    parts = [event["PayloadPart"]["Bytes"] for event in response["Body"]]
    assert parts == [b"one ", b"two ", b"three"]
    assert response["ContentType"] == "text/event-stream"


def test_an_error_of_the_model_is_a_model_error(session, deploy):
    deploy()
    wait_for_endpoint(session, "endpoint")
    with pytest.raises(ClientError) as caught:
        session.invoke_endpoint(EndpointName="endpoint", Body=b"bad")
    assert caught.value.response["Error"]["Code"] == "ModelError"
    assert caught.value.response["OriginalStatusCode"] == 400
    assert "no such thing" in caught.value.response["OriginalMessage"]


def test_a_server_that_exits_fails_the_endpoint_with_its_own_words(session, deploy):
    deploy(exit_code=4)
    reason = wait_for_endpoint(session, "endpoint", "Failed")["FailureReason"]
    assert "exited with code 4" in reason
    assert "ValueError: config.json has no model_type" in reason
    assert len(reason) <= 1024


def test_a_server_that_is_never_healthy_fails_in_time(tmp_path, session, model_archive):
    make_config(session, "sick", model_archive("sick", sick=True))
    object.__setattr__(session._settings, "startup_timeout", 1)
    session.create_endpoint(EndpointName="sick", EndpointConfigName="sick")
    reason = wait_for_endpoint(session, "sick", "Failed")["FailureReason"]
    assert "did not pass the ping health check within 1 s" in reason
    with pytest.raises(ClientError, match="not in service"):
        session.invoke_endpoint(EndpointName="sick", Body=b"x")


def test_a_server_that_dies_later_shows(session, deploy):
    deploy()
    wait_for_endpoint(session, "endpoint")
    with pytest.raises(ClientError, match="Received server error"):
        session.invoke_endpoint(EndpointName="endpoint", Body=b"die")
    wait_for(
        lambda: session.describe_endpoint(EndpointName="endpoint")["EndpointStatus"] == "Failed"
    )
    reason = session.describe_endpoint(EndpointName="endpoint")["FailureReason"]
    assert "exited with code 9" in reason
    assert "FATAL: the model fell over" in reason


def test_requests_in_flight_are_answered_before_the_end(session, deploy, tmp_path):
    deploy()
    wait_for_endpoint(session, "endpoint")
    answers, asked = [], tmp_path / "asked"

    def ask():
        response = session.invoke_endpoint(
            EndpointName="endpoint", Body=f"sleep 1 {asked}".encode()
        )
        answers.append(response["Body"].read())

    thread = threading.Thread(target=ask)
    thread.start()
    wait_for(asked.exists)
    session.delete_endpoint(EndpointName="endpoint")
    thread.join()
    assert answers == [b"slept"]


def test_a_server_deaf_to_sigterm_is_killed(session, deploy):
    deploy(deaf=True)
    wait_for_endpoint(session, "endpoint")
    pid = json.loads(session.invoke_endpoint(EndpointName="endpoint", Body=b"x")["Body"].read())[
        "pid"
    ]
    session.delete_endpoint(EndpointName="endpoint")
    assert session.describe_endpoint(EndpointName="endpoint")["EndpointStatus"] == "Deleting"
    wait_for(lambda: not session.list_endpoints()["Endpoints"])
    assert gone(pid)


def test_a_killed_supervisor_leaves_nothing_running(session, deploy):
    deploy()
    wait_for_endpoint(session, "endpoint")
    server = json.loads(session.invoke_endpoint(EndpointName="endpoint", Body=b"x")["Body"].read())
    os.kill(int(process_field(server["pid"], 1)), signal.SIGKILL)
    wait_for(lambda: gone(server["pid"]))
    wait_for(
        lambda: session.describe_endpoint(EndpointName="endpoint")["EndpointStatus"] == "Failed"
    )
    description = session.describe_endpoint(EndpointName="endpoint")
    assert "the process that watched over this endpoint died" in description["FailureReason"]
    session.delete_endpoint(EndpointName="endpoint")
    assert session.list_endpoints()["Endpoints"] == []


def test_an_archive_that_reaches_out_is_refused(session, tmp_path):
    directory = tmp_path / "evil"
    directory.mkdir()
    archive = directory / "model.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        link = tarfile.TarInfo("behaviour.json")
        link.type = tarfile.SYMTYPE
        link.linkname = "/etc/passwd"
        tar.addfile(link)
    make_config(session, "evil", archive)
    session.create_endpoint(EndpointName="evil", EndpointConfigName="evil")
    reason = wait_for_endpoint(session, "evil", "Failed")["FailureReason"]
    assert "Failed to prepare the model data" in reason


def test_an_uncompressed_prefix_is_served_in_place(session, tmp_path):
    directory = tmp_path / "plain"
    directory.mkdir()
    (directory / "behaviour.json").write_text('{"version": 7}')
    source = {
        "S3Uri": directory.as_uri() + "/",
        "S3DataType": "S3Prefix",
        "CompressionType": "None",
    }
    session.create_model(
        ModelName="plain",
        PrimaryContainer={"ModelDataSource": {"S3DataSource": source}},
        ExecutionRoleArn=ROLE,
    )
    session.create_endpoint_config(
        EndpointConfigName="plain",
        ProductionVariants=[
            {
                "VariantName": "v",
                "ModelName": "plain",
                "InitialInstanceCount": 1,
                "InstanceType": "ml.m5.large",
            }
        ],
    )
    session.create_endpoint(EndpointName="plain", EndpointConfigName="plain")
    wait_for_endpoint(session, "plain")
    body = session.invoke_endpoint(EndpointName="plain", Body=b"x")["Body"].read()
    assert json.loads(body)["version"] == 7
    assert oct((directory / "behaviour.json").stat().st_mode)[-3:] != "444"


def version_of(session, name):
    return json.loads(session.invoke_endpoint(EndpointName=name, Body=b"x")["Body"].read())


def test_an_update_replaces_the_server_without_a_gap(session, deploy, model_archive):
    deploy(version=1)
    wait_for_endpoint(session, "endpoint")
    old = version_of(session, "endpoint")
    make_config(session, "second", model_archive("second", version=2, start_seconds=0.5))
    session.update_endpoint(EndpointName="endpoint", EndpointConfigName="second")
    assert session.describe_endpoint(EndpointName="endpoint")["EndpointStatus"] == "Updating"
    with pytest.raises(ClientError, match="Cannot update in-progress endpoint"):
        session.update_endpoint(EndpointName="endpoint", EndpointConfigName="second")

    versions = []
    while session.describe_endpoint(EndpointName="endpoint")["EndpointStatus"] == "Updating":
        versions.append(version_of(session, "endpoint")["version"])
    assert versions == sorted(versions)
    assert set(versions) == {1, 2}
    description = session.describe_endpoint(EndpointName="endpoint")
    assert description["EndpointStatus"] == "InService"
    assert description["EndpointConfigName"] == "second"
    assert gone(old["pid"])
    assert [
        path.name for path in (session._store.home / "endpoints/endpoint/servers").iterdir()
    ] == ["2"]


def test_an_update_that_fails_is_rolled_back(session, deploy, model_archive):
    deploy(version=1)
    wait_for_endpoint(session, "endpoint")
    make_config(session, "broken", model_archive("broken", exit_code=3))
    session.update_endpoint(EndpointName="endpoint", EndpointConfigName="broken")
    description = wait_for_endpoint(session, "endpoint")
    assert description["EndpointConfigName"] == "endpoint"
    assert "rolled back" in description["FailureReason"]
    assert "config.json has no model_type" in description["FailureReason"]
    assert version_of(session, "endpoint")["version"] == 1


def test_an_endpoint_can_be_deleted_while_it_is_updated(session, deploy, model_archive):
    deploy(version=1)
    wait_for_endpoint(session, "endpoint")
    server = version_of(session, "endpoint")
    make_config(session, "slow", model_archive("slow", start_seconds=60))
    session.update_endpoint(EndpointName="endpoint", EndpointConfigName="slow")
    time.sleep(0.5)
    session.delete_endpoint(EndpointName="endpoint")
    wait_for(lambda: not session.list_endpoints()["Endpoints"])
    assert gone(server["pid"])


def test_a_failed_endpoint_cannot_be_updated(session, deploy):
    deploy(exit_code=1)
    wait_for_endpoint(session, "endpoint", "Failed")
    with pytest.raises(ClientError, match="delete it and create it again"):
        session.update_endpoint(EndpointName="endpoint", EndpointConfigName="endpoint")


def test_a_port_that_another_took_in_between_is_left_to_it(tmp_path, monkeypatch):
    script = tmp_path / "model" / "code" / "inference.py"
    script.parent.mkdir(parents=True)
    script.write_text("def model_fn(d): return d\n\ndef transform_fn(m, b, c, a): return b, c\n")
    container = {"ModelDataUrl": (tmp_path / "model").as_uri()}
    command, log = Settings().serve_command, tmp_path / "log.txt"
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        ports = iter([taken, serving_process.free_port()])
        monkeypatch.setattr(serving_process, "free_port", lambda: next(ports))
        server = serving_process.ServingProcess(tmp_path / "server", container, command, log)
        server.bring_up(60, lambda: None)
        server.stop(5)
    assert f"port {taken} is taken" in log.read_text()
    assert server.port != taken
