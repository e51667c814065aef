"""Start, stop and everything that can go wrong in between, on real processes."""

import concurrent.futures
import json
import socket
import threading
import time

import httpx
import pytest
from serving_models import script
from serving_process import Server, base_with, free_port

pytestmark = pytest.mark.slow

SLOW = """
import time

def model_fn(model_dir):
    time.sleep(1)

def transform_fn(model, data, content_type, accept):
    time.sleep(float(data))
    return data
"""


def refused(base, **environ):
    """Exit code and log of a server that should not come up."""
    with Server(base, wait=False, **environ) as server:
        code = server.process.wait(60)
    return code, server.log.read_text()


def test_ping_is_503_until_the_model_answers(tmp_path):
    script(tmp_path / "model", SLOW)
    with Server(tmp_path, wait=False) as server:
        seen = set()
        deadline = time.monotonic() + 30
        while 200 not in seen and time.monotonic() < deadline:
            seen.add(server.ping())
            time.sleep(0.02)
        assert 503 in seen
        assert 200 in seen


def test_requests_while_loading_are_told_to_come_back(tmp_path):
    script(tmp_path / "model", SLOW)
    with Server(tmp_path, wait=False) as server:
        while server.ping() == 0:
            time.sleep(0.02)
        answer = server.invoke(b"0")
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
        assert "loading" in answer.json()["error"]["message"]


def test_sigterm_answers_what_is_in_flight_and_refuses_what_is_new(tmp_path):
    script(tmp_path / "model", SLOW)
    with (
        Server(tmp_path, SAGEMAKER_MODEL_SERVER_WORKERS="4") as server,
        concurrent.futures.ThreadPoolExecutor() as threads,
    ):
        running = [threads.submit(server.invoke, b"1.5") for _ in range(4)]
        time.sleep(0.5)
        server.process.terminate()
        time.sleep(0.2)
        assert server.ping() == 503
        late = httpx.post(f"{server.url}/invocations", content=b"0")
        assert late.status_code == 503
        assert late.headers["connection"] == "close"
        assert [answer.result().text for answer in running] == ["1.5"] * 4
        assert server.process.wait(10) == 0


def wait_for_answers(outcomes, count):
    """Until the clients have had so many answers, or something else."""
    while len(outcomes) < count and set(outcomes) <= {200}:
        time.sleep(0.02)


def test_sigterm_under_load_loses_no_request(classifier_dir, tmp_path):
    outcomes = []
    with Server(base_with(classifier_dir, tmp_path)) as server:

        def client():
            with httpx.Client(base_url=server.url, timeout=30) as session:
                while True:
                    try:
                        answer = session.post("/invocations", json={"inputs": "good movie"})
                    except httpx.ConnectError:
                        return  # nothing listens any more: the request was never taken
                    except httpx.TransportError as error:
                        outcomes.append(repr(error))
                        return
                    outcomes.append(answer.status_code)

        threads = [threading.Thread(target=client) for _ in range(8)]
        for thread in threads:
            thread.start()
        wait_for_answers(outcomes, 100)
        assert server.stop() == 0
        for thread in threads:
            thread.join()
    assert set(outcomes) == {200, 503}


def test_sigterm_under_load_finishes_every_generation(language_model_dir, tmp_path):
    """Whole and streamed answers that have begun come to their end; what is new is a 503."""
    outcomes = []
    with Server(base_with(language_model_dir, tmp_path)) as server:

        def client(stream):
            body = {"prompt": "the movie", "max_tokens": 60, "temperature": 0, "ignore_eos": True}
            with httpx.Client(base_url=server.url, timeout=30) as session:
                while True:
                    try:
                        answer = session.post("/v1/completions", json={**body, "stream": stream})
                    except httpx.ConnectError:
                        return  # nothing listens any more: the request was never taken
                    except httpx.TransportError as error:
                        outcomes.append(repr(error))
                        return
                    if answer.status_code == 200 and stream:
                        whole = answer.text.endswith("data: [DONE]\n\n")
                        whole = whole and '"finish_reason":"length"' in answer.text
                    elif answer.status_code == 200:
                        whole = answer.json()["usage"]["completion_tokens"] == 60
                    else:
                        time.sleep(0.01)
                        whole = answer.json()["error"]["code"] == "not_ready"
                    outcomes.append(answer.status_code if whole else answer.text)

        threads = [threading.Thread(target=client, args=(n % 2 == 0,)) for n in range(8)]
        for thread in threads:
            thread.start()
        wait_for_answers(outcomes, 16)
        assert server.stop() == 0
        for thread in threads:
            thread.join()
    assert set(outcomes) == {200, 503}


def test_a_taken_port_is_named(classifier_dir, tmp_path):
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, log = refused(base_with(classifier_dir, tmp_path), SAGEMAKER_BIND_TO_PORT=str(port))
    assert code == 1
    assert f"port {port} is taken" in log
    assert "SAGEMAKER_BIND_TO_PORT" in log


@pytest.mark.parametrize(
    ("files", "environ", "message"),
    [
        ({}, {}, "no model in"),
        ({"notes.txt": ""}, {}, "config.json is missing"),
        ({"config.json": "{"}, {}, "is not valid JSON"),
        (
            {"config.json": {"architectures": ["ViTForImage"]}, "m.safetensors": ""},
            {},
            "ViTForImag",
        ),
        ({"config.json": {}, "pytorch_model.bin": ""}, {}, "is a pickle"),
        ({"config.json": {}}, {}, "no weights in"),
        ({"config.json": {"auto_map": {}}, "m.safetensors": ""}, {}, "TRUST_REMOTE_CODE"),
        ({"adapter_config.json": {"base_model_name_or_path": "org/x"}}, {}, "'org/x'"),
        ({}, {"SAGEMAKER_BIND_TO_PORT": "http"}, "SAGEMAKER_BIND_TO_PORT='http'"),
        ({}, {"SM_SERVE_ENGINE": "warp"}, "SM_SERVE_ENGINE='warp'"),
    ],
)
def test_what_cannot_be_served_is_refused_at_once(tmp_path, files, environ, message):
    (tmp_path / "model").mkdir()
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (tmp_path / "model" / name).write_text(text)
    code, log = refused(tmp_path, **environ)
    assert code == 1
    assert message in log
    assert "Traceback" not in log


def test_a_broken_weights_file_never_turns_healthy(classifier_dir, tmp_path):
    base = base_with(classifier_dir, tmp_path)
    weights = base / "model" / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:1000])
    code, log = refused(base)
    assert code == 1
    assert "model.safetensors is damaged" in log
    assert "Traceback" not in log
    # A header that only looks right is found out where the tensors are read.
    weights.write_bytes(whole.replace(b'"F32"', b'"F99"', 1))
    code, log = refused(base)
    assert code == 1
    assert "the model could not be loaded" in log


def test_a_full_queue_answers_429(tmp_path):
    script(tmp_path / "model", SLOW)
    with (
        Server(tmp_path, SM_SERVE_MAX_IN_FLIGHT="2") as server,
        concurrent.futures.ThreadPoolExecutor() as threads,
    ):
        running = [threads.submit(server.invoke, b"0.7") for _ in range(2)]
        time.sleep(0.3)
        answer = server.invoke(b"0")
        assert answer.status_code == 429
        assert answer.headers["retry-after"] == "1"
        assert server.ping() == 200
        assert [done.result().status_code for done in running] == [200, 200]


def test_a_request_over_its_time_answers_504(tmp_path):
    script(tmp_path / "model", SLOW)
    with Server(tmp_path, SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS="1") as server:
        answer = server.invoke(b"2")
    assert answer.status_code == 504
    assert answer.json()["error"]["code"] == "timeout"


def test_logs_have_request_ids_and_no_bodies(tmp_path, classifier_dir):
    with Server(base_with(classifier_dir, tmp_path)) as server:
        answer = server.invoke({"inputs": "secret words"}, x_amzn_sagemaker_inference_id="abc-1")
        other = server.invoke({"inputs": "secret words"})
        assert server.stop() == 0  # the line is written after the answer was sent
        log = server.log.read_text()
    assert answer.headers["x-request-id"] == "abc-1"
    assert "request=abc-1 method=POST path=/invocations status=200" in log
    assert f"request={other.headers['x-request-id']}" in log
    assert "secret" not in log


def test_the_port_can_be_used_again_at_once(tmp_path):
    script(tmp_path / "model", SLOW.replace("time.sleep(1)", "pass"))
    port = free_port()
    for _ in range(2):
        with Server(tmp_path, port=port) as server:
            assert server.invoke(b"0").status_code == 200
            assert server.stop() == 0
