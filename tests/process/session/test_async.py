"""Asynchronous endpoints: requests are files, answers become files."""

import json
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError

from sm_launch.errors import LaunchError, UserInputError
from sm_launch.hosting import asynchronous as launcher

from .conftest import make_config, wait_for, wait_for_endpoint

pytestmark = pytest.mark.slow


@pytest.fixture
def asynchronous(session, model_archive, tmp_path):
    def create(name="later", endpoint=True, **behaviour):
        config = {
            "ClientConfig": {"MaxConcurrentInvocationsPerInstance": 2},
            "OutputConfig": {"S3OutputPath": (tmp_path / "answers").as_uri()},
        }
        archive = model_archive(name, **behaviour)
        make_config(session, name, archive, more={"AsyncInferenceConfig": config})
        if endpoint:
            session.create_endpoint(EndpointName=name, EndpointConfigName=name)
            wait_for_endpoint(session, name)
        return name

    return create


@pytest.fixture
def ask(session, tmp_path):
    def send(body, **more):
        source = tmp_path / "question"
        source.write_text(body)
        response = session.invoke_endpoint_async(
            EndpointName="later", InputLocation=source.as_uri(), **more
        )
        return path_of(response["OutputLocation"]), path_of(response["FailureLocation"])

    return send


def path_of(uri):
    return Path(urlsplit(uri).path)


def test_an_answer_becomes_a_file(session, asynchronous, ask, tmp_path):
    asynchronous()
    output, failure = ask("hello", ContentType="text/plain", CustomAttributes="a=b")
    wait_for(output.exists)
    seen = json.loads(output.read_text())
    assert seen["body"] == "hello"
    assert seen["headers"]["content-type"] == "text/plain"
    assert seen["headers"]["x-amzn-sagemaker-custom-attributes"] == "a=b"
    assert output.parent == tmp_path / "answers"
    assert not failure.exists()
    queue = session._store.home / "endpoints/later/queue"
    wait_for(lambda: not list(queue.iterdir()))


def test_a_refusal_becomes_a_failure_file(asynchronous, ask):
    asynchronous()
    output, failure = ask("bad")
    wait_for(failure.exists)
    assert "no such thing" in failure.read_text()
    assert not output.exists()


def test_slow_answers_do_not_stop_an_update(session, asynchronous, ask):
    asynchronous(version=1)
    slow = [ask("sleep 1")[0] for _ in range(3)]
    asynchronous("next", endpoint=False, version=2)
    session.update_endpoint(EndpointName="later", EndpointConfigName="next")
    wait_for_endpoint(session, "later")
    wait_for(lambda: all(path.exists() for path in slow))
    output, _ = ask("hello")
    wait_for(output.exists)
    assert json.loads(output.read_text())["version"] == 2


def test_the_two_ways_do_not_mix(session, asynchronous, model_archive, ask):
    asynchronous()
    with pytest.raises(ClientError, match="use invoke_endpoint_async"):
        session.invoke_endpoint(EndpointName="later", Body=b"x")
    make_config(session, "now", model_archive("now"))
    with pytest.raises(ClientError, match="cannot turn"):
        session.update_endpoint(EndpointName="later", EndpointConfigName="now")
    session.create_endpoint(EndpointName="now", EndpointConfigName="now")
    wait_for_endpoint(session, "now")
    with pytest.raises(ClientError, match="is not asynchronous"):
        session.invoke_endpoint_async(EndpointName="now", InputLocation="file:///tmp/x")
    with pytest.raises(ClientError, match="there is no file '/nowhere'"):
        session.invoke_endpoint_async(EndpointName="later", InputLocation="file:///nowhere")


def test_the_launcher_waits_for_the_answer(session, asynchronous, deploy):
    asynchronous()
    kinds = {"content_type": "text/plain", "accept": "application/json", "timeout": 20}
    answer = launcher.invoke(session, "later", b"hello", **kinds)
    assert json.loads(answer)["body"] == "hello"
    with pytest.raises(LaunchError, match="no such thing"):
        launcher.invoke(session, "later", b"bad", **kinds)
    deploy("now")
    wait_for_endpoint(session, "now")
    with pytest.raises(UserInputError, match="not asynchronous"):
        launcher.invoke(session, "now", b"hello", **kinds)
