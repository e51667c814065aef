"""The rest of the hosting table, and that none of its rows is without a test."""

import concurrent.futures
import json
import re
import time
from pathlib import Path

import pytest
from serving_models import script
from serving_process import Server, base_with

ROOT = Path(__file__).parents[3]
ROWS = {
    "start": ("contract/hosting/test_hosting_table.py", "test_start_serve_is_a_command"),
    "port": ("contract/hosting/test_hosting_table.py", "test_port_comes_from_bind_to_port"),
    "`/ping`": ("contract/hosting/test_hosting_table.py", "test_ping_answers_within_two_seconds"),
    "`/invocations`": ("contract/hosting/test_hosting_table.py", "test_invocations_takes_six"),
    "batch transform": ("contract/hosting/test_hosting_table.py", "test_batch_transform_is_told"),
    "async inference": ("contract/hosting/test_every_row.py", "test_async_inference_takes_large"),
    "stop": ("contract/hosting/test_every_row.py", "test_stop_answers_what_is_in_flight"),
    "model": ("contract/hosting/test_hosting_table.py", "test_model_may_be_read_only"),
    "file system": ("contract/hosting/test_every_row.py", "test_nothing_is_written_outside"),
    "user code": ("process/serving/test_inference_script.py", "test_"),
    "client headers": ("contract/hosting/test_every_row.py", "test_client_headers_are_taken"),
    "multi-model": ("process/serving/test_multi_model.py", "test_"),
    "adapters": ("process/serving/test_adapters.py", "test_adapters_come_and_go"),
    "streaming": ("contract/hosting/test_hosting_table.py", "test_streaming_is_chunked"),
    "metrics": ("contract/hosting/test_hosting_table.py", "test_metrics_are_prometheus_text"),
    "document": ("contract/hosting/test_openapi.py", "test_schemathesis_finds_nothing"),
}
SLOW = """
import time

def model_fn(model_dir):
    return 1

def transform_fn(model, data, content_type, accept):
    time.sleep({seconds})
    return {answer}
"""
WATCH = """
import os, sys

def watch(event, arguments):
    if event == "open":
        path, mode, flags = arguments
        writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    elif event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir"):
        path, writes = arguments[0], True
    else:
        return
    if not writes or not isinstance(path, (str, bytes, os.PathLike)):
        return
    name = os.path.abspath(os.fsdecode(path))
    allowed = (os.environ["TMPDIR"], "/dev/", "/tmp/torchinductor_")
    if not name.startswith(allowed):
        sys.__stderr__.write(f"WROTE {event} {name}\\n")

sys.addaudithook(watch)
"""


def test_every_row_of_the_table_has_a_test():
    section = (ROOT / "docs" / "serving.md").read_text().partition("## The hosting contract")[2]
    rows = re.findall(r"^\| ([^|]+?) \|", section.partition("\n## ")[0], re.MULTILINE)[1:]
    assert set(rows) == set(ROWS)
    for file, name in ROWS.values():
        assert f"def {name}" in (ROOT / "tests" / file).read_text()


@pytest.mark.slow
def test_nothing_is_written_outside_tmp(classifier_dir, tmp_path):
    (tmp_path / "watch").mkdir()
    (tmp_path / "watch" / "sitecustomize.py").write_text(WATCH)
    (tmp_path / "scratch").mkdir()
    environ = {
        "PYTHONPATH": str(tmp_path / "watch"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": "/nonexistent",
        "TMPDIR": str(tmp_path / "scratch"),
    }
    with Server(base_with(classifier_dir, tmp_path / "base"), **environ) as server:
        assert server.invoke({"inputs": "good"}).status_code == 200
        assert server.stop() == 0
        log = server.log.read_text()
    assert "WROTE" not in log, log


@pytest.mark.slow
def test_async_inference_takes_large_bodies_for_a_long_time(tmp_path):
    script(tmp_path / "model", SLOW.format(seconds=1.5, answer="str(len(data))"))
    environ = {
        "SAGEMAKER_MAX_PAYLOAD_IN_MB": "1024",
        "SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS": "900",
    }
    with Server(tmp_path, **environ) as server:
        body = b"x" * (40 * 1024 * 1024)
        answer = server.invoke(body, x_amzn_sagemaker_inference_id="job-1")
        assert (answer.status_code, answer.text) == (200, str(len(body)))
        assert answer.headers["x-request-id"] == "job-1"


@pytest.mark.slow
def test_stop_answers_what_is_in_flight_within_thirty_seconds(tmp_path):
    script(tmp_path / "model", SLOW.format(seconds=2, answer="data"))
    environ = {"SAGEMAKER_MODEL_SERVER_WORKERS": "3"}
    with Server(tmp_path, **environ) as server, concurrent.futures.ThreadPoolExecutor() as threads:
        running = [threads.submit(server.invoke, b"%d" % n) for n in range(3)]
        time.sleep(0.7)
        began = time.monotonic()
        server.process.terminate()
        assert [done.result().text for done in running] == ["0", "1", "2"]
        assert server.process.wait(30) == 0
        assert time.monotonic() - began < 30


@pytest.mark.slow
def test_client_headers_are_taken(classifier):
    answer = classifier.invoke(
        {"inputs": "good"},
        x_amzn_sagemaker_target_variant="blue",
        x_amzn_sagemaker_inference_component="part",
        x_amzn_sagemaker_custom_attributes="trace=1",
        x_amzn_sagemaker_inference_id="id-1",
    )
    assert answer.status_code == 200
    assert answer.headers["x-request-id"] == "id-1"
    # No session is kept here, so none is promised.
    session = classifier.invoke({"inputs": "a"}, x_amzn_sagemaker_session_id="NEW_SESSION")
    assert session.status_code == 400
    assert "session" in json.loads(session.text)["error"]["message"].lower()
    for value in ("route=/v1/nope", "trace=1,route=/v1/nope"):
        wrong = classifier.invoke({"inputs": "a"}, x_amzn_sagemaker_custom_attributes=value)
        assert wrong.status_code == 400
        assert "/v1/nope" in json.loads(wrong.text)["error"]["message"]
