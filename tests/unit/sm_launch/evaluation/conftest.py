"""A classification endpoint over real HTTP, small enough to start for every test."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from sm_launch.evaluation import InvokeReply

LABELS = ("negative", "neutral", "positive")


class Endpoint:
    """Answers the label that a text begins with; texts and counters steer its misbehaviour."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.requests = 0
        self.batch_sizes: list[int] = []
        self.failures: list[int] = []
        self.client = httpx.Client(timeout=10)

    def __call__(self, body: bytes, content_type: str, accept: str) -> InvokeReply:
        headers = {"Content-Type": content_type, "Accept": accept}
        try:
            reply = self.client.post(self.url, content=body, headers=headers)
        except httpx.TransportError as error:
            raise ConnectionError(str(error)) from error
        return InvokeReply(reply.status_code, reply.content, reply.headers["Content-Type"])

    def reply(self, body: bytes) -> tuple[int, object]:
        request = json.loads(body)
        assert request["parameters"] == {"top_k": None}
        texts = request["inputs"]
        self.requests += 1
        self.batch_sizes.append(len(texts))
        if self.failures:
            return self.failures.pop(), {"error": {"code": "busy", "message": "try again"}}
        if any("poison" in text for text in texts):
            return 400, {"error": {"code": "bad_request", "message": "poison is not served"}}
        return 200, [scores(text) for text in texts]


def scores(text: str) -> list[dict[str, object]]:
    winner = next(label for label in LABELS if text.startswith(label))
    answer = [{"label": x, "score": 0.8 if x == winner else 0.1} for x in LABELS]
    return sorted(answer, key=lambda entry: -float(entry["score"]))


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            status, document = served.reply(self.rfile.read(int(self.headers["Content-Length"])))
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            """Keeps the test output clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served = Endpoint(f"http://127.0.0.1:{server.server_port}/invocations")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield served
    served.client.close()
    server.shutdown()
    server.server_close()
