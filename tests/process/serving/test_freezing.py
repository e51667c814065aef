"""What one client sends must not keep the server from any other: /ping within a second, always."""

import contextlib
import json
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import freezing_clients
import httpx
import pytest

pytestmark = pytest.mark.slow

SECONDS = 6.0
HERE = Path(__file__).parent
KINDS = [kind for kind, *_ in freezing_clients.bodies()]
GENERATING = KINDS[KINDS.index("prompts × n"):]  # fmt: skip


@contextlib.contextmanager
def sampling(server):
    """/ping is asked every 100 ms inside, and [status, seconds, waited] are told afterwards."""
    sampler = subprocess.Popen(
        [sys.executable, HERE / "ping_sampler.py", str(server.port), str(server.process.pid)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    samples = []
    with sampler:
        yield samples
        told, _ = sampler.communicate(timeout=90)
    assert sampler.returncode == 0
    samples += map(json.loads, told.splitlines())


def longest(samples):
    """Seconds that the server itself let a client of /ping wait."""
    return max(seconds - waited for _, seconds, waited in samples)


@pytest.mark.parametrize("name", ["classifier", "language_model"])
def test_ping_answers_at_once_whatever_clients_send(name, request):
    server = request.getfixturevalue(name)
    kinds = KINDS if name == "language_model" else KINDS[: -len(GENERATING)]
    clients = [sys.executable, HERE / "freezing_clients.py", str(server.port), str(SECONDS)]
    with sampling(server) as samples:
        sent = subprocess.run([*clients, *kinds], stdout=subprocess.PIPE, timeout=90, check=True)
    assert longest(samples) < 1
    assert len(samples) > SECONDS * 2
    assert {status for status, *_ in samples} == {200}
    statuses = json.loads(sent.stdout)
    assert set().union(*statuses.values()) <= {200, 400, 413, 415, 429, 503, 504}
    assert set(statuses) == set(kinds)
    assert server.invoke({"inputs": "good"}).status_code == 200


def test_a_loop_that_is_held_is_seen_as_such(classifier):
    with sampling(classifier) as samples:
        time.sleep(0.5)
        classifier.process.send_signal(signal.SIGSTOP)
        time.sleep(1.5)
        classifier.process.send_signal(signal.SIGCONT)
        time.sleep(0.5)
    assert 1 < longest(samples) < 3


EVIL = [
    {"guided_regex": "(((a{100}){100}){100}){100}"},
    {"guided_regex": "b((((a{99}){99}){99}){99})"},
    {"guided_grammar": 'start: a{1000000}\na: "x"\n'},
    {"guided_json": {"$ref": "#"}},
    {"guided_json": {"type": "object", "properties": {f"k{n}": {} for n in range(3000)}}},
    {"guided_regex": "(" * 900 + "a" + ")" * 900},
]


def test_a_constraint_without_end_is_a_400_and_the_batch_goes_on(language_model):
    parameters = {"max_new_tokens": 200, "ignore_eos_token": True}
    body = {"inputs": "hello", "parameters": parameters, "stream": True}
    stop, gaps = threading.Event(), []

    def read():
        while not stop.is_set():
            with language_model.client.stream("POST", "/invocations", json=body) as answer:
                assert answer.status_code == 200
                last = None
                for _ in answer.iter_lines():
                    if last is not None:
                        gaps.append(time.monotonic() - last)
                    last = time.monotonic()

    def ask(constraint):
        body = {"prompt": "a", "max_tokens": 60, **constraint}
        return httpx.post(f"{language_model.url}/v1/completions", json=body, timeout=90)

    with ThreadPoolExecutor(len(EVIL) + 1) as threads:
        reading = threads.submit(read)
        answers = list(threads.map(ask, EVIL))
        stop.set()
        reading.result(60)
    assert [answer.status_code for answer in answers] == [400] * len(EVIL)
    codes = {answer.json()["error"]["code"] for answer in answers}
    assert codes == {"invalid_constraint"}
    assert max(gaps) < 3
    held = ask({"guided_regex": "(yes|no)!"}).json()["choices"][0]
    assert held["text"] in ("yes!", "no!")
