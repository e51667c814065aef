"""A member of a multi-model endpoint that brings a script: served by a process of its own.

Scripts of several models have modules of the same names (`inference`, `utils`), which one Python
cannot tell apart. The stock server gives each model a process too.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

from sm_serve.config import Settings
from sm_serve.errors import NotReady, StartupError
from sm_serve.handlers.answer import Answer, Incoming
from sm_serve.protocol import Engine
from sm_serve.schemas import media

LOOPBACK = "127.0.0.1"
PIECE_BYTES = 65536
STOP_SECONDS = 10.0
HOP_HEADERS = frozenset({"host", "connection", "content-length", "transfer-encoding", "upgrade"})
"""Of one connection alone: they are not passed on."""
THREADS_BESIDE = 8
"""More requests than the script has threads may wait inside the member."""


class Member:
    """A Handler whose answers come from a child `serve` on the loopback interface."""

    engine: Engine | None = None

    def __init__(self, model_dir: Path, settings: Settings) -> None:
        """Starts the process and waits until it is ready. StartupError tells its own reason."""
        self._settings = settings
        self._base = Path(tempfile.mkdtemp(prefix="sm-serve-member-"))
        (self._base / "model").symlink_to(model_dir)
        self._port = free_port(os.environ.get("SAGEMAKER_SAFE_PORT_RANGE", ""))
        self._pool = ThreadPoolExecutor(
            settings.user_threads + THREADS_BESIDE, thread_name_prefix="sm-serve-member"
        )
        self._said = ""
        self._child = subprocess.Popen(
            [sys.executable, "-m", "sm_serve.member_main"],
            env={**os.environ, **self._environment()},
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # a signal to the server is the front's affair
        )
        assert self._child.stderr is not None
        self._relay = threading.Thread(target=self._tell, args=(self._child.stderr,), daemon=True)
        self._relay.start()
        try:
            self._wait_ready()
        except BaseException:
            self.close()
            raise

    def _environment(self) -> dict[str, str]:
        return {
            "SAGEMAKER_MULTI_MODEL": "false",
            "SAGEMAKER_BASE_DIR": str(self._base),
            "SAGEMAKER_BIND_TO_PORT": str(self._port),
            "SM_SERVE_HOST": LOOPBACK,
            "SM_SERVE_LAME_DUCK": "0",
            "SM_SERVE_EMF": "false",
        }

    def _tell(self, stream: IO[bytes]) -> None:
        """Passes the child's standard error on; its last word is the reason of a failed start."""
        for line in stream:
            sys.stderr.buffer.write(line)
            sys.stderr.buffer.flush()
            if line.startswith(b"serve: "):
                self._said = line.decode(errors="replace").removeprefix("serve: ").strip()

    def _wait_ready(self) -> None:
        while self._child.poll() is None:
            if self._ping() == 200:
                return
            time.sleep(0.05)
        self._relay.join(1)
        code = self._child.returncode
        raise StartupError(self._said or f"the model's own process ended with code {code}")

    def _ping(self) -> int:
        connection = http.client.HTTPConnection(LOOPBACK, self._port, timeout=2)
        try:
            connection.request("GET", "/ping")
            return connection.getresponse().status
        except OSError:
            return 0
        finally:
            connection.close()

    async def invoke(self, request: Incoming) -> Answer:
        """See Handler."""
        loop = asyncio.get_running_loop()
        connection = http.client.HTTPConnection(LOOPBACK, self._port)
        headers = {n: v for n, v in request.headers.items() if n not in HOP_HEADERS}
        headers.setdefault("x-request-id", request.id)

        def ask() -> http.client.HTTPResponse:
            connection.request("POST", "/invocations", request.body, headers)
            return connection.getresponse()

        try:
            response = await loop.run_in_executor(self._pool, ask)
            given = {name.lower(): value for name, value in response.getheaders()}
            kind = given.pop("content-type", media.JSON)
            rest = {n: v for n, v in given.items() if n not in HOP_HEADERS | {"x-request-id"}}
            if response.chunked:
                pieces = self._pieces(connection, response)
                return Answer(pieces, kind, response.status, rest)
            body = await loop.run_in_executor(self._pool, response.read)
        except OSError as error:
            _end(connection)
            raise NotReady(f"the model does not answer: {self.health() or error}") from error
        except asyncio.CancelledError:
            _end(connection)
            raise
        connection.close()
        return Answer(body, kind, response.status, rest)

    async def _pieces(
        self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse
    ) -> AsyncGenerator[bytes]:
        loop = asyncio.get_running_loop()
        try:
            while piece := await loop.run_in_executor(self._pool, response.read1, PIECE_BYTES):
                yield piece
        finally:
            _end(connection)

    async def warm_up(self) -> None:
        """The process has warmed up before it was ready."""

    def health(self) -> str | None:
        """See Handler."""
        code = self._child.poll()
        return None if code is None else f"its process has ended with code {code}"

    def close(self) -> None:
        """Stops the process, which answers what it has begun."""
        self._child.terminate()
        try:
            self._child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        if self._child.stdin is not None:
            self._child.stdin.close()
        self._pool.shutdown(wait=False, cancel_futures=True)
        shutil.rmtree(self._base, ignore_errors=True)


def _end(connection: http.client.HTTPConnection) -> None:
    """Ends a connection that a thread may be reading from."""
    if connection.sock is not None:
        with contextlib.suppress(OSError):
            connection.sock.shutdown(socket.SHUT_RDWR)
    connection.close()


def free_port(safe_range: str) -> int:
    """A port that nothing listens on, within SAGEMAKER_SAFE_PORT_RANGE (`LOW-HIGH`) if given."""
    if not safe_range:
        candidates = range(1)
    else:
        low, _, high = safe_range.partition("-")
        if not (low.isdigit() and high.isdigit()):
            raise StartupError(f"SAGEMAKER_SAFE_PORT_RANGE={safe_range!r}: give LOW-HIGH")
        candidates = range(int(low), int(high) + 1)
    for port in candidates:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((LOOPBACK, port))
            return int(probe.getsockname()[1])
    raise StartupError(f"SAGEMAKER_SAFE_PORT_RANGE={safe_range!r} has no free port left")
