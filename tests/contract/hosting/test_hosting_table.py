"""SageMaker's hosting contract, a test a row of the table in docs/serving.md."""

import concurrent.futures
import itertools
import json
import shutil
import socket
import sys
import time
from pathlib import Path

import pytest
from serving_process import Server, base_with

pytestmark = pytest.mark.slow


def test_start_serve_is_a_command_on_the_path():
    assert shutil.which("serve", path=str(Path(sys.executable).parent))


def test_port_comes_from_bind_to_port(classifier):
    with socket.create_connection(("127.0.0.1", classifier.port), timeout=1):
        pass


def test_ping_answers_within_two_seconds_and_connects_within_250_ms_under_load(classifier):
    def load():
        return classifier.invoke({"inputs": ["good movie " * 30] * 64}).status_code

    with concurrent.futures.ThreadPoolExecutor(9) as threads:
        running = [threads.submit(load) for _ in range(16)]
        while not all(done.done() for done in running):
            began = time.monotonic()
            with socket.create_connection(("127.0.0.1", classifier.port), timeout=0.25):
                assert time.monotonic() - began < 0.25
            assert classifier.ping() == 200
            assert time.monotonic() - began < 2
    assert {done.result() for done in running} == {200}


def test_invocations_takes_six_megabytes_and_no_more(classifier):
    padding = "x" * (6 * 1024 * 1024 - len('{"inputs":""}'))
    body = json.dumps({"inputs": padding}, separators=(",", ":"))
    assert len(body) == 6_291_456
    assert classifier.invoke(body).status_code == 200
    assert classifier.invoke(body + " ").status_code == 413


def test_batch_transform_is_told_its_parameters_and_multi_record_lines_work(
    classifier_dir, tmp_path
):
    with Server(base_with(classifier_dir, tmp_path), SAGEMAKER_BATCH="true") as server:
        parameters = server.client.get("/execution-parameters").json()
        assert parameters["BatchStrategy"] == "MULTI_RECORD"
        assert 1 <= parameters["MaxPayloadInMB"] <= 100
        assert parameters["MaxConcurrentTransforms"] * parameters["MaxPayloadInMB"] <= 100
        lines = "".join(json.dumps({"inputs": f"good {n}"}) + "\n" for n in range(500))
        answer = server.invoke(lines, content_type="application/jsonlines")
        assert len(answer.text.splitlines()) == 500
        big = server.invoke(b"x" * (7 * 1024 * 1024), content_type="text/plain")
        assert big.status_code == 200


def test_model_may_be_read_only(classifier_dir, tmp_path):
    base = base_with(classifier_dir, tmp_path)
    for path in (base / "model").iterdir():
        path.chmod(0o444)
    (base / "model").chmod(0o555)
    before = sorted((base / "model").iterdir())
    with Server(base) as server:
        assert server.invoke({"inputs": "good"}).status_code == 200
    assert sorted((base / "model").iterdir()) == before


def test_custom_attributes_are_bounded(classifier):
    long = classifier.invoke({"inputs": "a"}, x_amzn_sagemaker_custom_attributes="x" * 1025)
    assert long.status_code == 400
    fine = classifier.invoke({"inputs": "a"}, x_amzn_sagemaker_custom_attributes="x" * 1024)
    assert fine.status_code == 200


def test_inference_id_comes_back(classifier):
    answer = classifier.invoke({"inputs": "a"}, x_amzn_sagemaker_inference_id="order-7")
    assert answer.headers["x-request-id"] == "order-7"


def test_streaming_is_chunked_and_the_first_piece_comes_early(language_model):
    body = {
        "inputs": "hello",
        "stream": True,
        "parameters": {"max_new_tokens": 400, "ignore_eos_token": True},
    }
    with language_model.client.stream("POST", "/invocations", json=body) as answer:
        assert answer.headers["transfer-encoding"] == "chunked"
        assert answer.headers["content-type"].startswith("text/event-stream")
        began = time.monotonic()
        moments = [time.monotonic() - began for line in answer.iter_lines() if line]
    assert len(moments) > 50
    assert moments[0] < moments[-1] / 4  # the first of many pieces does not wait for the rest
    assert max(b - a for a, b in itertools.pairwise(moments)) < moments[-1] / 2


def test_ping_answers_within_two_seconds_while_text_is_generated_and_scored(language_model):
    body = {"prompt": "hello", "max_tokens": 200, "temperature": 1, "ignore_eos": True}
    score = {"prompt": ["the movie " * 100] * 8, "max_tokens": 0, "echo": True, "logprobs": 5}

    def load(document):
        return language_model.client.post("/v1/completions", json=document).status_code

    with concurrent.futures.ThreadPoolExecutor(12) as threads:
        running = [threads.submit(load, document) for document in [body, score] * 8]
        slowest = 0.0
        while not all(done.done() for done in running):
            began = time.monotonic()
            assert language_model.ping() == 200
            slowest = max(slowest, time.monotonic() - began)
    assert slowest < 2
    assert {done.result() for done in running} == {200}


def test_metrics_are_prometheus_text(classifier):
    classifier.invoke({"inputs": "good"})
    text = classifier.client.get("/metrics").text
    values = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            values[name] = float(value)
    assert values["sm_serve_ready"] == 1
    assert values['sm_serve_requests_total{route="/invocations",status="200"}'] > 0
    assert (
        values['sm_serve_request_seconds_bucket{le="+Inf"}']
        == values["sm_serve_request_seconds_count"]
    )
