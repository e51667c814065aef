"""Asynchronous inference: the endpoint's supervisor works off a queue of files.

A request is one JSON document in `<endpoint>/queue/`, in the order of their names; its answer goes
where the request says.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from sm_launch.sessions.process.hosting.serving_process import exchange
from sm_launch.sessions.process.store import Record, write_bytes, write_json

# AsyncInferenceConfig.ClientConfig: SageMaker finds its own number where none is given.
_CONCURRENCY = "MaxConcurrentInvocationsPerInstance"
_DEFAULT_CONCURRENCY = 4
_MOST_CONCURRENCY = 1000


def queue_directory(record: Record) -> Path:
    """Where an endpoint's requests wait."""
    return record.path / "queue"


def enqueue(record: Record, order: dict[str, Any]) -> None:
    """Put a request behind all others.

    Args:
        record: the endpoint.
        order: `id`, `input`, `output` and `failure` (paths), `headers`, `expires` (seconds since
            the epoch) and `timeout` (seconds).
    """
    directory = queue_directory(record)
    directory.mkdir(exist_ok=True)
    write_json(directory / f"{time.time_ns():020d}-{order['id']}.json", order)


class AsyncQueue:
    """Sends queued requests to the server, so many at a time.

    Args:
        record: the endpoint.
        terms: tells the endpoint's AsyncInferenceConfig and its server's port, as they are now.
    """

    def __init__(self, record: Record, terms: Callable[[], tuple[dict[str, Any], int]]) -> None:
        self._directory = queue_directory(record)
        self._terms = terms
        self._pool = ThreadPoolExecutor(_MOST_CONCURRENCY)  # threads are started as needed
        self._running: dict[Path, Future[None]] = {}

    def pump(self) -> None:
        """Forget what is done and start what waits; to be called often."""
        for path, future in list(self._running.items()):
            if future.done():
                path.unlink()
                del self._running[path]
                future.result()
        if not self._directory.is_dir():
            return
        config, port = self._terms()
        most = config.get("ClientConfig", {}).get(_CONCURRENCY, _DEFAULT_CONCURRENCY)
        for path in sorted(self._directory.glob("*.json")):
            if len(self._running) >= most:
                return
            if path not in self._running:
                order = json.loads(path.read_text())
                self._running[path] = self._pool.submit(self._answer, order, port)

    def close(self) -> None:
        """Start nothing more; what is in flight ends with the server."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _answer(self, order: dict[str, Any], port: int) -> None:
        if time.time() > order["expires"]:
            self._fail(order, "the request waited longer than RequestTTLSeconds")
            return
        try:
            body, headers = Path(order["input"]).read_bytes(), order["headers"]
            status, content = exchange(
                port, "POST", "/invocations", body, headers, timeout=order["timeout"]
            )
        except (OSError, http.client.HTTPException) as error:
            self._fail(order, f"{type(error).__name__}: {error}")
            return
        if 200 <= status < 300:
            write_bytes(Path(order["output"]), content)
        else:
            text = content.decode("utf-8", "replace")
            self._fail(order, f"Received error ({status}) from the model: {text}")

    def _fail(self, order: dict[str, Any], reason: str) -> None:
        write_bytes(Path(order["failure"]), reason.encode())
