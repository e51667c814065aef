"""A stand-in of SageMaker's runtime in front of one server: what its clients call, and how."""

from __future__ import annotations

import binascii
import contextlib
import http.client
import struct
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

OWN = ("host", "content-length", "connection", "authorization", "transfer-encoding", "expect")
"""Headers of the call itself: the container does not get them."""
STREAM_ACCEPT = "x-amzn-sagemaker-accept"
"""What InvokeEndpointWithResponseStream calls the Accept header (botocore's model)."""


def message(kind: str, name: str, payload: bytes) -> bytes:
    """One message of AWS's binary event stream."""
    pairs = {":message-type": kind, f":{kind}-type": name}
    headers = b"".join(
        bytes([len(key)]) + key.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()
        for key, value in pairs.items()
    )
    prelude = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    start = prelude + struct.pack(">I", binascii.crc32(prelude)) + headers + payload
    return start + struct.pack(">I", binascii.crc32(start))


class Runtime(BaseHTTPRequestHandler):
    """/endpoints/NAME/invocations[-response-stream], by the server's /invocations."""

    protocol_version = "HTTP/1.1"
    port: int
    seen: list[dict[str, str]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        headers = {name: value for name, value in headers.items() if name not in OWN}
        if STREAM_ACCEPT in headers:
            headers["accept"] = headers.pop(STREAM_ACCEPT)
        self.seen.append({"path": self.path, **headers})
        server = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        server.request("POST", "/invocations", body, headers)
        answer = server.getresponse()
        self.send_response(answer.status)
        kind = answer.headers["Content-Type"]
        streamed = self.path.endswith("/invocations-response-stream")
        if streamed:
            self.send_header("X-Amzn-SageMaker-Content-Type", kind)
            kind = "application/vnd.amazon.eventstream"
        self.send_header("Content-Type", kind)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while piece := answer.read1(65536):
            self.write(message("event", "PayloadPart", piece) if streamed else piece)
        self.write(b"")
        server.close()

    def write(self, part: bytes) -> None:
        """A chunk of the answer; an empty one ends it."""
        self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))

    def log_message(self, *_: object) -> None:
        """Nothing is logged."""


@contextlib.contextmanager
def runtime_of(port: int) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """The stand-in's address, and the path and headers of each call."""
    seen: list[dict[str, str]] = []
    bound = type("Bound", (Runtime,), {"port": port, "seen": seen})
    with ThreadingHTTPServer(("127.0.0.1", 0), bound) as front:
        threading.Thread(target=front.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{front.server_address[1]}", seen
        front.shutdown()
