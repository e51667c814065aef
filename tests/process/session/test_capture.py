"""Captured data has SageMaker's files and form."""

import base64
import json

import pytest

from .conftest import make_config, wait_for_endpoint

pytestmark = pytest.mark.slow


@pytest.fixture
def capturing(session, model_archive, tmp_path):
    def create(name="captured", percentage=100, **more):
        config = {
            "EnableCapture": True,
            "InitialSamplingPercentage": percentage,
            "DestinationS3Uri": (tmp_path / "capture").as_uri(),
            "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
            **more,
        }
        make_config(session, name, model_archive(name), more={"DataCaptureConfig": config})
        session.create_endpoint(EndpointName=name, EndpointConfigName=name)
        wait_for_endpoint(session, name)
        return name

    return create


def events(tmp_path):
    files = sorted((tmp_path / "capture").rglob("*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def test_requests_and_answers_are_captured(session, capturing, tmp_path):
    capturing()
    described = session.describe_endpoint(EndpointName="captured")["DataCaptureConfig"]
    assert described["CaptureStatus"] == "Started"
    bodies = {"application/json; charset=utf-8": '{"inputs": "é"}', "text/csv": "a,b"}
    for content_type, body in bodies.items():
        session.invoke_endpoint(
            EndpointName="captured",
            Body=body,
            ContentType=content_type,
            Accept="application/json",
            InferenceId="id-7",
        )
    captured = events(tmp_path)
    inputs = [event["captureData"]["endpointInput"] for event in captured]
    assert [(each["encoding"], each["data"]) for each in inputs] == [
        ("JSON", '{"inputs": "é"}'),
        ("CSV", "a,b"),
    ]
    output = captured[0]["captureData"]["endpointOutput"]
    assert output["mode"] == "OUTPUT"
    assert output["encoding"] == "JSON"
    assert json.loads(output["data"])["body"] == '{"inputs": "é"}'
    assert captured[0]["eventMetadata"]["inferenceId"] == "id-7"
    assert captured[0]["eventMetadata"]["inferenceTime"].endswith("Z")
    (file,) = (tmp_path / "capture").rglob("*.jsonl")
    parts = file.relative_to(tmp_path / "capture").parts
    assert parts[:2] == ("captured", "AllTraffic")
    assert [len(part) for part in parts[2:6]] == [4, 2, 2, 2]


def test_unlisted_types_are_base64_and_modes_are_kept(session, capturing, tmp_path):
    capturing(
        CaptureOptions=[{"CaptureMode": "Input"}],
        CaptureContentTypeHeader={"JsonContentTypes": ["application/jsonlines"]},
    )
    for content_type in ("application/json", "application/jsonlines"):
        session.invoke_endpoint(EndpointName="captured", Body=b"1", ContentType=content_type)
    encoded, plain = events(tmp_path)
    assert encoded["captureData"]["endpointInput"]["data"] == base64.b64encode(b"1").decode()
    assert plain["captureData"]["endpointInput"]["encoding"] == "JSON"
    assert "endpointOutput" not in plain["captureData"]


def test_nothing_is_sampled_at_zero_percent(session, capturing, tmp_path):
    capturing(percentage=0)
    session.invoke_endpoint(EndpointName="captured", Body=b"1")
    assert events(tmp_path) == []


def test_an_update_can_end_the_capture(session, capturing, model_archive, tmp_path):
    capturing()
    make_config(session, "plain", model_archive("plain"))
    session.update_endpoint(EndpointName="captured", EndpointConfigName="plain")
    assert "DataCaptureConfig" not in wait_for_endpoint(session, "captured")
    session.invoke_endpoint(EndpointName="captured", Body=b"1")
    assert events(tmp_path) == []
