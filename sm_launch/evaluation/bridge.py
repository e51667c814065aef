"""OpenAI's routes of an endpoint as plain HTTP on this machine, for tools that know no SageMaker.

The serving image takes the route from `X-Amzn-SageMaker-Custom-Attributes`, so this works wherever
the endpoint is.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from sm_launch.sessions.protocol import Session


@contextmanager
def bridge(
    session: Session, endpoint: str, asked: Mapping[str, str] | None = None
) -> Iterator[str]:
    """The base URL, without a slash at its end; the server is gone afterwards.

    Args:
        session: where the endpoint is.
        endpoint: its name.
        asked: what a request must say besides, such as a component.
    """
    address = {"EndpointName": endpoint, **(asked or {})}
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(session, address))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(session: Session, address: Mapping[str, str]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            status, answer = _ask(session, address, self.path, body)
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            """Nothing: each request would be a line."""

    return Handler


def _ask(session: Session, address: Mapping[str, str], path: str, body: bytes) -> tuple[int, bytes]:
    """Status and body; an error of the endpoint as its server gave it."""
    from botocore.exceptions import ClientError

    try:
        answer = session.invoke_endpoint(
            **address,
            Body=body,
            ContentType="application/json",
            Accept="application/json",
            CustomAttributes=f"route={path}",
        )
        content: bytes = answer["Body"].read()
        return 200, content
    except ClientError as error:
        told: dict[str, Any] = dict(error.response)
        message = str(told.get("OriginalMessage") or error)
        status = int(told.get("OriginalStatusCode") or 0)
        document = {"error": {"message": message}}
        return (status if status >= 400 else 502), json.dumps(document).encode()
