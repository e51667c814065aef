"""One `serve` process: started on a free port, asked for its health, drained."""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sm_launch.errors import LaunchError
from sm_launch.sessions.process import artefacts, environment, uris
from sm_launch.sessions.process.children import Child
from sm_launch.sessions.process.store import remove_tree

PING_TIMEOUT = 2.0
"""Hosting: /ping must answer within this many seconds."""

_PING_INTERVAL = 0.2
_PORT_ATTEMPTS = 3
# As the operating system says it, sm_serve, and Docker.
_PORT_TAKEN = re.compile(
    r"address already in use|errno (98|48)|port \d+ is taken|port is already allocated", re.I
)


class UnhealthyError(Exception):
    """A server did not come up, or it died; the text says why."""


class ServingProcess:
    """A server of one model, with a base directory of its own.

    Args:
        directory: where the base directory is made; it must not exist yet.
        container: PrimaryContainer of the model.
        command: what to run.
        log_path: where stdout and stderr are appended.
        extra: further environment variables (SAGEMAKER_BATCH, …).
    """

    def __init__(
        self,
        directory: Path,
        container: dict[str, Any],
        command: list[str],
        log_path: Path,
        extra: dict[str, str] | None = None,
    ) -> None:
        self.base = directory / "opt" / "ml"
        self._directory = directory
        self.port = 0
        self._container = container
        self._command = command
        self._log_path = log_path
        self._extra = extra or {}
        self._child: Child | None = None
        self._log_start = 0

    def bring_up(self, timeout: float, check: Callable[[], None]) -> None:
        """Start the server and wait for its first healthy /ping.

        Args:
            timeout: seconds in which it must become healthy.
            check: called between pings; what it raises ends the waiting.

        Raises:
            UnhealthyError: the model data is unfit, or the server is not healthy in time.
        """
        try:
            self._prepare()
        except (OSError, tarfile.TarError, LaunchError) as error:
            raise UnhealthyError(f"Failed to prepare the model data: {error}") from error
        for attempt in range(1, _PORT_ATTEMPTS + 1):
            try:
                self._start()
            except OSError as error:
                raise UnhealthyError(f"The container did not start: {error}") from error
            if self._healthy_in_time(timeout, check):
                return
            if not self._lost_its_port() or attempt == _PORT_ATTEMPTS:
                break
        code = self.exit_code()
        raise self.failure(
            f"did not pass the ping health check within {timeout:.0f} s"
            if code is None
            else f"exited with code {code} before it passed the ping health check"
        )

    def failure(self, what: str) -> UnhealthyError:
        """The error that says what the container did, with its last words."""
        tail = artefacts.last_lines(self._log_path, 800) or "(none)"
        return UnhealthyError(f"The container {what}. Last log lines: {tail}")

    def _healthy_in_time(self, timeout: float, check: Callable[[], None]) -> bool:
        deadline = time.monotonic() + timeout
        while self.exit_code() is None and time.monotonic() < deadline:
            check()
            if self._is_healthy():
                return True
            time.sleep(_PING_INTERVAL)
        return False

    def _prepare(self) -> None:
        """Put the model where the server looks for it."""
        model = self.base / "model"
        (self.base / "tmp").mkdir(parents=True)
        source = artefact_path(self._container)
        if source is None:
            model.mkdir()
        elif source.is_dir():
            # The directory as a whole: links to single files would lead out of the model.
            model.symlink_to(source, target_is_directory=True)
        else:
            artefacts.unpack(source, model)
            artefacts.make_read_only(model)

    def _start(self) -> None:
        """Start the server on a port that is free now."""
        self.port = free_port()
        self._log_start = self._log_path.stat().st_size if self._log_path.exists() else 0
        variables = {**self._container.get("Environment", {}), **self._extra}
        self._child = Child(
            self._command,
            env=environment.serving_environment(self.base, variables, self.port),
            cwd=self.base / "tmp",
            log_path=self._log_path,
        )

    def exit_code(self) -> int | None:
        """The server's exit code, None while it runs."""
        assert self._child is not None, "bring_up() comes first"
        return self._child.exit_code()

    def _lost_its_port(self) -> bool:
        """Whether the server ended because another process took the port in between."""
        with self._log_path.open("rb") as log:
            log.seek(self._log_start)
            text = log.read().decode("utf-8", "replace")
        return self.exit_code() is not None and _PORT_TAKEN.search(text) is not None

    def _is_healthy(self) -> bool:
        """Whether /ping answers 200."""
        try:
            return exchange(self.port, "GET", "/ping", timeout=PING_TIMEOUT)[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def stop(self, grace: float) -> None:
        """SIGTERM, then SIGKILL after `grace` seconds."""
        if self._child is not None:
            self._child.stop(grace)

    def discard(self) -> None:
        """Delete the base directory; the server must have been stopped."""
        remove_tree(self._directory)


def artefact_path(container: dict[str, Any]) -> Path | None:
    """The model.tar.gz or directory that a container definition names, None where it names none."""
    if "ModelDataUrl" in container:
        return uris.to_path(container["ModelDataUrl"], "PrimaryContainer.ModelDataUrl")
    source = container.get("ModelDataSource", {}).get("S3DataSource")
    if source is None:
        return None
    return uris.to_path(source["S3Uri"], "PrimaryContainer.ModelDataSource.S3DataSource.S3Uri")


def exchange(
    port: int,
    method: str,
    path: str,
    body: bytes = b"",
    headers: dict[str, str] | None = None,
    *,
    timeout: float,
) -> tuple[int, bytes]:
    """One request to a server on this machine: the status and the body of its answer.

    Raises:
        OSError, HTTPException: there was no answer within `timeout` seconds.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    with contextlib.closing(connection):
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read()


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
