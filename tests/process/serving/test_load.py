"""Ten thousand requests of mixed sizes, with clients that leave and clients that dawdle."""

import concurrent.futures
import random
import socket
import threading
import time

import httpx
import psutil
import pytest
from serving_process import Server, base_with

pytestmark = pytest.mark.slow

REQUESTS = 10_000
CLIENTS = 16
MAX_GROWTH_MIB = 48


def rude(port, stop, turns):
    """Sends half a request, or leaves without reading the answer, as often as it gets a turn.

    It waits for no answer: without turns it would send more than a busy machine can answer, and the
    server would rightly refuse the others (429).
    """
    body = b'{"inputs": "good movie"}'
    head = b"POST /invocations HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    while not stop.is_set():
        if not turns.acquire(timeout=0.1):
            continue
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            connection.sendall(head + b"content-length: %d\r\n\r\n" % len(body))
            if random.random() < 0.5:
                connection.sendall(body)
            time.sleep(random.random() / 100)


def slow(port, stop):
    """Sends a request a few bytes at a time."""
    request = b"POST /invocations HTTP/1.1\r\nhost: x\r\ncontent-length: 6\r\n\r\n" + b'"good"'
    answers = 0
    while not stop.is_set():
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            for start in range(0, len(request), 10):
                connection.sendall(request[start : start + 10])
                time.sleep(0.01)
            assert connection.recv(4096).startswith(b"HTTP/1.1 200")
            answers += 1
    return answers


def memory(server):
    """Of the server and its engine's process, in MiB."""
    front = psutil.Process(server.process.pid)
    return sum(p.memory_info().rss for p in (front, *front.children(recursive=True))) / 2**20


def test_every_request_is_answered_once_correctly_and_memory_is_flat(classifier_dir, tmp_path):
    texts = [" ".join(["good", "bad", "movie"] * (1 + n % 30)) + f" {n % 97}" for n in range(200)]
    with Server(base_with(classifier_dir, tmp_path)) as server:
        expected = [server.invoke({"inputs": text}).json()[0] for text in texts]
        local = threading.local()
        turns = threading.Semaphore(0)

        def ask(number):
            if not hasattr(local, "client"):
                local.client = httpx.Client(base_url=server.url, timeout=60)
            index = number % len(texts)
            answer = local.client.post("/invocations", json={"inputs": texts[index]})
            assert answer.status_code == 200
            answered = answer.json()[0]
            assert answered["label"] == expected[index]["label"]
            assert answered["score"] == pytest.approx(expected[index]["score"], abs=1e-4)
            turns.release()  # one that leaves for each that stays
            return index

        stop = threading.Event()
        with concurrent.futures.ThreadPoolExecutor(CLIENTS + 3) as threads:
            nuisances = [threads.submit(rude, server.port, stop, turns) for _ in range(2)]
            dawdler = threads.submit(slow, server.port, stop)
            for _ in threads.map(ask, range(REQUESTS // 5)):
                pass
            before = memory(server)
            answered = sum(1 for _ in threads.map(ask, range(REQUESTS - REQUESTS // 5)))
            stop.set()
            assert dawdler.result() > 10
            for nuisance in nuisances:
                nuisance.result()
        assert answered == REQUESTS - REQUESTS // 5
        assert memory(server) - before < MAX_GROWTH_MIB
        time.sleep(0.3)
        metrics = server.client.get("/metrics").text
        assert "sm_serve_in_flight 0" in metrics
        assert server.ping() == 200
