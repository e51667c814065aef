"""Streams: text out of every form, however the pieces are cut; SageMaker's event stream."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from botocore.exceptions import ClientError
from endpoint_runtime import message

from sm_launch.errors import LaunchError
from sm_launch.hosting import streaming
from sm_launch.hosting.chat import Conversation
from sm_launch.sessions.aws import AwsSession

CHAT = [
    {"choices": [{"delta": {"role": "assistant", "content": ""}}]},
    {"choices": [{"delta": {"content": "Grüße, "}}]},
    {"choices": [{"delta": {"content": "world"}}]},
    {"choices": [{"delta": {}, "finish_reason": "stop"}]},
    {"choices": [], "usage": {"total_tokens": 8}},
]


def sse(events: list[dict[str, object]]) -> bytes:
    lines = [f"data: {json.dumps(event, ensure_ascii=False)}\n\n" for event in events]
    return "".join([": comment\n", *lines, "data: [DONE]\n\n"]).encode()


@pytest.mark.parametrize("size", [1, 2, 7, 10_000])
def test_text_comes_out_wherever_the_pieces_are_cut(size: int) -> None:
    body = sse(CHAT)
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    assert "".join(streaming.texts(pieces)) == "Grüße, world"


def test_every_form_of_stream() -> None:
    tokens = [
        {"token": {"text": "a", "special": False}, "generated_text": None},
        {"token": {"text": "</s>", "special": True}, "generated_text": "a"},
    ]
    assert list(streaming.texts([sse(tokens)])) == ["a"]
    as_lines = "\n".join(json.dumps(event) for event in tokens).encode()
    assert list(streaming.texts([as_lines])) == ["a"]
    assert list(streaming.texts([sse([{"choices": [{"text": "b"}]}])])) == ["b"]
    assert list(streaming.texts([b"plain words\nmore"])) == ["plain words\n", "more\n"]
    assert list(streaming.texts([b'{"label": "good"}'])) == ['{"label": "good"}\n']
    with pytest.raises(LaunchError, match="out of memory"):
        list(streaming.texts([sse([{"error": {"message": "out of memory"}}])]))
    with pytest.raises(LaunchError, match="ModelStreamError gone"):
        list(streaming.chunks([{"ModelStreamError": {"Message": "gone"}}]))


def test_a_model_does_not_command_the_terminal() -> None:
    assert streaming.harmless("\x1b[2Ja\tb\n\x07\x9bc") == "[2Ja\tb\nc"


class Runtime(BaseHTTPRequestHandler):
    """What SageMaker's runtime answers; the last turn breaks off."""

    protocol_version = "HTTP/1.1"
    bodies: list[dict[str, object]]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.bodies.append({"path": self.path, **body, "headers": dict(self.headers)})
        text = sse(CHAT)
        parts = [
            message("event", "PayloadPart", text[:50]),
            message("event", "PayloadPart", text[50:]),
        ]
        if "break" in str(body["messages"]):
            detail = json.dumps(
                {"Message": "worker died", "ErrorCode": "ModelInvocationTimeExceeded"}
            )
            parts[1] = message("exception", "ModelStreamError", detail.encode())
        self.send_response(200)
        self.send_header("Content-Type", "application/vnd.amazon.eventstream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for part in [*parts, b""]:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def bodies(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, object]]]:
    seen: list[dict[str, object]] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Runtime,), {"bodies": seen}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_address[1]}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield seen
    server.shutdown()
    server.server_close()


@pytest.mark.slow
def test_a_conversation_over_sagemakers_event_stream(bodies: list[dict[str, object]]) -> None:
    talk = Conversation(  # type: ignore[arg-type]
        AwsSession("eu-central-1"), "mine", {"max_tokens": 5}, "be brief", "mine-polite"
    )
    assert "".join(talk.ask("hello")) == "Grüße, world"
    assert talk.pieces == 2
    assert talk.messages[-1] == {"role": "assistant", "content": "Grüße, world"}
    with pytest.raises(ClientError, match="worker died"):
        list(talk.ask("break"))
    assert len(talk.messages) == 2  # what broke off is not remembered
    first, second = bodies
    assert first["path"] == "/endpoints/mine/invocations-response-stream"
    roles = [each["role"] for each in second["messages"]]  # type: ignore[attr-defined]
    assert roles == ["system", "user", "assistant", "user"]
    headers = {key.lower(): value for key, value in first["headers"].items()}  # type: ignore[attr-defined]
    assert headers["x-amzn-sagemaker-inference-component"] == "mine-polite"
