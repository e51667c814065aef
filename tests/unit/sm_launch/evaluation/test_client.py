from __future__ import annotations

import io

import boto3
import pytest
from botocore.response import StreamingBody
from botocore.stub import ANY, Stubber

from sm_launch.errors import LaunchError
from sm_launch.evaluation import RetryPolicy, session_invoker


@pytest.fixture
def runtime():
    client = boto3.client(
        "sagemaker-runtime",
        region_name="eu-west-1",
        aws_access_key_id="x",
        aws_secret_access_key="y",
    )
    with Stubber(client) as stub:
        yield client, stub


def call(client):
    return session_invoker(client, "sentiment")(b"{}", "application/json", "application/json")


def test_the_request_and_reply_fit_the_service_model(runtime):
    client, stub = runtime
    body = StreamingBody(io.BytesIO(b"[]"), 2)
    expected = {
        "EndpointName": "sentiment",
        "Body": b"{}",
        "ContentType": "application/json",
        "Accept": "application/json",
    }
    stub.add_response(
        "invoke_endpoint", {"Body": body, "ContentType": "application/json"}, expected
    )
    reply = call(client)
    assert (reply.status, reply.body, reply.content_type) == (200, b"[]", "application/json")


@pytest.mark.parametrize(
    ("code", "http_status", "status"),
    [("ThrottlingException", 400, 429), ("ServiceUnavailable", 503, 503), ("Odd", 400, 400)],
)
def test_client_errors_become_statuses(runtime, code, http_status, status):
    client, stub = runtime
    stub.add_client_error("invoke_endpoint", code, "why", http_status, expected_params=ANY_REQUEST)
    assert call(client).status == status


ANY_REQUEST = {"EndpointName": ANY, "Body": ANY, "ContentType": ANY, "Accept": ANY}


def test_a_model_error_tells_the_containers_own_status(runtime):
    client, stub = runtime
    fields = {"OriginalStatusCode": 400, "OriginalMessage": '{"error": {"message": "too long"}}'}
    stub.add_client_error("invoke_endpoint", "ModelError", "m", 424, modeled_fields=fields)
    reply = call(client)
    assert (reply.status, reply.body) == (400, b'{"error": {"message": "too long"}}')


def test_expired_credentials_end_the_evaluation(runtime):
    client, stub = runtime
    stub.add_client_error("invoke_endpoint", "ExpiredTokenException", "expired", 403)
    with pytest.raises(LaunchError, match="renew the credentials"):
        call(client)


def test_connection_faults_of_botocore_are_worth_repeating():
    client = boto3.client(
        "sagemaker-runtime",
        region_name="eu-west-1",
        endpoint_url="http://127.0.0.1:9",
        aws_access_key_id="x",
        aws_secret_access_key="y",
        config=boto3.session.Config(retries={"max_attempts": 0}),
    )
    with pytest.raises(ConnectionError):
        call(client)


def test_pauses_grow_up_to_the_cap():
    policy = RetryPolicy(base_s=1, cap_s=4)
    for attempt, limit in ((1, 1), (2, 2), (3, 4), (9, 4)):
        assert limit / 2 <= policy.pause(attempt) <= limit
