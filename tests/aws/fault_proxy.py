"""A proxy in front of moto that breaks chosen requests, as AWS and networks do.

It speaks real HTTP on both sides: what a fault does to botocore is what it would do in production.
"""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

HOP_HEADERS = {"connection", "transfer-encoding", "content-length", "date", "server"}


@dataclass
class Fault:
    """What happens to the requests of one operation.

    Attributes:
        operation: `CreateEndpoint`, or `PUT /key` for S3.
        code: error code of the answer; empty drops the connection half-way.
        message: of the error.
        status: of the answer.
        times: so many requests are hit, then all is well again.
        after: so many requests pass first.
        answer: the service's answer in place of an error; JSON.
        hits: how many were hit.
    """

    operation: str
    code: str = ""
    message: str = "injected"
    status: int = 400
    times: int = 10_000
    after: int = 0
    answer: dict[str, Any] | None = None
    hits: int = 0


@dataclass
class Proxy:
    """The running proxy: add faults, look at what was asked for."""

    url: str
    faults: list[Fault] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def inject(self, operation: str, code: str = "", **more: object) -> Fault:
        fault = Fault(operation, code, **more)  # type: ignore[arg-type]
        self.faults.append(fault)
        return fault

    def count(self, operation: str) -> int:
        return sum(seen.startswith(operation) for seen in self.seen)

    def fault_for(self, operation: str) -> Fault | None:
        with self.lock:
            self.seen.append(operation)
            for fault in self.faults:
                if not operation.startswith(fault.operation):
                    continue
                if fault.after:
                    fault.after -= 1
                elif fault.hits < fault.times:
                    fault.hits += 1
                    return fault
        return None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: Proxy
    target: str

    def handle_one(self) -> None:
        body = self.body()
        fault = self.proxy.fault_for(self.operation(body))
        if fault is None:
            self.forward(body)
        elif fault.answer is not None:
            self.answer("application/x-amz-json-1.1", json.dumps(fault.answer), 200)
        elif fault.code:
            self.refuse(fault)
        else:
            self.close_connection = True
            self.connection.close()

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_one

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        content = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return content

    def operation(self, body: bytes) -> str:
        target = self.headers.get("X-Amz-Target", "")
        if target:
            return target.rsplit(".", 1)[-1]
        if self.path.startswith("/service/"):  # rpc-v2-cbor
            return self.path.rsplit("/", 1)[-1]
        action = parse_qs(body.decode("latin-1")).get("Action")
        return action[0] if action else f"{self.command} {urlsplit(self.path).path}"

    def refuse(self, fault: Fault) -> None:
        if "X-Amz-Target" in self.headers:
            kind = "application/x-amz-json-1.1"
            text = json.dumps({"__type": fault.code, "message": fault.message})
        else:
            kind = "application/xml"
            text = f"<Error><Code>{fault.code}</Code><Message>{fault.message}</Message></Error>"
            if self.headers.get("Content-Type", "").startswith("application/x-www-form"):
                text = f"<ErrorResponse>{text}</ErrorResponse>"
        self.answer(kind, text, fault.status)

    def answer(self, kind: str, text: str, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text.encode())

    def forward(self, body: bytes) -> None:
        connection = http.client.HTTPConnection(self.target, timeout=60)
        headers = {
            key: value
            for key, value in self.headers.items()
            if key.lower() not in {"transfer-encoding", "content-length", "expect"}
        }
        connection.request(self.command, self.path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
        self.send_response(answer.status)
        for key, value in answer.getheaders():
            if key.lower() not in HOP_HEADERS:
                self.send_header(key, value)
        length = answer.getheader("Content-Length") if self.command == "HEAD" else None
        self.send_header("Content-Length", length or str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        connection.close()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def fault_proxy(target_url: str) -> Iterator[Proxy]:
    """A proxy in front of `target_url`."""
    proxy = Proxy("")
    bound = {"proxy": proxy, "target": urlsplit(target_url).netloc}
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), bound))
    proxy.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield proxy
    server.shutdown()
    server.server_close()
