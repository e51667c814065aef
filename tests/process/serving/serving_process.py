"""A real `serve` process for tests: its own base directory and port, always ended."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import httpx

SERVE = [sys.executable, "-m", "sm_serve"]


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """`with Server(model_dir) as server:` serves a copy of a model and waits until it is ready."""

    @property
    def command(self) -> Sequence[str]:
        """What is started."""
        return SERVE

    def __init__(
        self, base: Path, *, wait: bool = True, port: int | None = None, **environ: str
    ) -> None:
        self.base = base
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = base / "serve.log"
        self._wait = wait
        self._environ = environ

    def __enter__(self) -> Server:
        environ = {
            **os.environ,
            "SAGEMAKER_BASE_DIR": str(self.base),
            "SAGEMAKER_BIND_TO_PORT": str(self.port),
            "OMP_NUM_THREADS": "1",
            **self._environ,
        }
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                self.command,
                env=environ,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.base,
                start_new_session=True,
            )
        self.client = httpx.Client(base_url=self.url, timeout=60)
        if self._wait:
            self.wait_ready()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.client.close()
        # As a container's end does: vLLM's processes outlive a server that is killed alone.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def ping(self) -> int:
        """Status of /ping; 0 while nothing listens."""
        try:
            return self.client.get("/ping").status_code
        except httpx.TransportError:
            return 0

    def wait_ready(self, seconds: float = 300) -> None:
        """Waits for 200; fails with the log when the server ends or takes too long."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.ping() == 200:
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.1)
        raise AssertionError(f"not ready:\n{self.log.read_text()}")

    def stop(self, seconds: float = 30) -> int:
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)

    def invoke(self, body: bytes | str | dict | list, **headers: str) -> httpx.Response:
        """POST /invocations; keywords are headers with underscores for dashes."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if isinstance(body, bytes | str):
            return self.client.post("/invocations", content=body, headers=named)
        return self.client.post("/invocations", json=body, headers=named)


HASTE = """
import sys
from sm_serve import service
service.BROKEN_SECONDS = 0.5
from sm_serve.main import main
"""


class Hasty(Server):
    """A server that gives a broken engine up soon. `trouble` is what a subclass brings about."""

    trouble = ""

    @property
    def command(self) -> Sequence[str]:
        """The `serve` command, with its trouble."""
        return (sys.executable, "-c", f"{HASTE}{self.trouble}\nsys.exit(main())")

    def wait_anew(self, seconds: float = 30) -> None:
        """Waits until it has started anew."""
        deadline = time.monotonic() + seconds
        while "starting anew" not in self.log.read_text():
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)
        self.wait_ready()


def base_with(model: Path, base: Path) -> Path:
    """A base directory holding a copy of a model."""
    shutil.copytree(model, base / "model")
    return base
