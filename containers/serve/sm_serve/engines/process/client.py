"""An encoder in a process of its own, as its front sees it.

Python runs one thread at a time. In one process, the many short steps of a small model and the HTTP
of the requests would wait for each other, on two processors as on one; in two they do not.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, cast

from sm_serve.artefact.artefact import Artefact
from sm_serve.config import Settings
from sm_serve.engines.background import in_thread
from sm_serve.engines.process.frames import FrameReader, pack, receive_frame, unpack, write_frame
from sm_serve.engines.process.revival import Revival
from sm_serve.engines.turns import OWNER
from sm_serve.errors import NotReady, StartupError, read_failure
from sm_serve.platform.renewal import BROKEN_SECONDS, Changes
from sm_serve.protocol import Task

logger = logging.getLogger(__name__)

SILENCE_SECONDS = 10.0
"""A process that lives tells its state four times a second, however busy its engine is."""


class ProcessPredictor(asyncio.Protocol):
    """A Predictor and AdapterHost whose model is in a child process (`engines/process_main.py`).

    What comes up in one turn of the event loop goes over in one message, and so do the answers.
    """

    command: ClassVar[Sequence[str]] = (sys.executable, "-m", "sm_serve.engines.process.worker")

    def __init__(self, task: Task, settings: Settings) -> None:
        self.task = task
        self._settings = settings
        self._child, self._socket = start(self.command, settings)
        stall = settings.stall_timeout
        self._silence = min(stall, SILENCE_SECONDS)
        self._frames = FrameReader()
        self._connecting: asyncio.Future[Any] | None = None
        self._transport: asyncio.Transport | None = None
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._requests: dict[bytes, list[tuple[int, int, bytes]]] = {}
        self._owners: Counter[int] = Counter()
        self._next = 0
        self._problem: str | None = None
        self._stats: Mapping[str, float] = {}
        self._adapters: list[str] = []
        self._heard = time.monotonic()
        self._closed = False
        self._revival = Revival("the engine's process", self._start_again)
        self._changes = Changes()

    @classmethod
    def load(cls, artefact: Artefact, settings: Settings) -> ProcessPredictor:
        """Starts the process and waits until its engine is loaded.

        Raises StartupError with the child's own reason.
        """
        engine = cls(artefact.task, settings)
        engine._read(receive_frame(engine._socket))
        return engine

    async def predict(self, inputs: Sequence[Any], parameters: Mapping[str, Any]) -> list[Any]:
        """One result an input; see the protocol."""
        # Packed one by one: what cannot be packed is this request's failure alone.
        packed, key = pack(list(inputs)), pack(dict(parameters))
        number, future = await self._expect()
        if not self._requests:
            asyncio.get_running_loop().call_soon(self._send)
        with self._working_for(OWNER.get()) as owner:
            self._requests.setdefault(key, []).append((number, owner, packed))
            results: list[Any] = await self._answer(number, future)
        return results

    @contextlib.contextmanager
    def _working_for(self, owner: int) -> Iterator[int]:
        """Counts an owner's calls; 0 for that of one that has no other, as most have."""
        self._owners[owner] += 1
        try:
            yield owner if self._owners[owner] > 1 else 0
        finally:
            self._owners[owner] -= 1
            if not self._owners[owner]:
                del self._owners[owner]

    def adapters(self) -> list[str]:
        """See AdapterHost."""
        return self._adapters

    async def load_adapter(self, name: str, path: Path) -> None:
        """See AdapterHost."""
        await self._call("load_adapter", name, str(path))
        self._changes.load(name, path)

    async def unload_adapter(self, name: str) -> None:
        """See AdapterHost."""
        await self._call("unload_adapter", name)
        self._changes.unload(name)

    async def _call(self, method: str, *arguments: Any) -> None:
        number, future = await self._expect()
        await self._ask(number, future, method, arguments)

    async def _ask(
        self, number: int, future: asyncio.Future[Any], method: str, arguments: Sequence[Any]
    ) -> None:
        self._write(("call", number, method, arguments))
        await self._answer(number, future)

    async def _expect(self) -> tuple[int, asyncio.Future[Any]]:
        """A number for a request and the future of its answer. NotReady without a process."""
        if self._transport is None:
            await self._connect()
        if self._revival.lost is not None:
            raise NotReady(f"the model does not answer: {self._revival.lost}")
        return self._number()

    def _number(self) -> tuple[int, asyncio.Future[Any]]:
        self._next += 1
        future = asyncio.get_running_loop().create_future()
        self._waiting[self._next] = future
        return self._next, future

    async def _answer(self, number: int, future: asyncio.Future[Any]) -> Any:
        try:
            return await future
        except asyncio.CancelledError:
            if self._waiting.pop(number, None) is not None:
                self._write(("cancel", number))
            raise

    async def _connect(self) -> None:
        """Hands the socket to the event loop, which does not exist yet when the engine loads."""
        if self._connecting is None:
            connection = asyncio.get_running_loop().create_connection(
                lambda: self, sock=self._socket
            )
            self._connecting = asyncio.ensure_future(connection)
        await asyncio.shield(self._connecting)

    def _send(self) -> None:
        """Requests with the same parameters go together."""
        for parameters, requests in self._requests.items():
            self._write(("predict", parameters, requests))
        self._requests.clear()

    def _write(self, message: Any) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(write_frame(message))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        self._heard = time.monotonic()
        for message in self._frames.feed(data):
            self._read(message)

    def _read(self, message: Any) -> None:
        kind, *content = message
        if kind == "state":
            self._problem, self._stats, self._adapters = content
        else:
            for number, failure, results in content[0]:
                self._settle(number, failure, results)

    def _settle(self, number: int, failure: tuple[Any, ...] | None, results: bytes) -> None:
        future = self._waiting.pop(number, None)
        if future is None or future.done():
            return
        if failure is None:
            future.set_result(unpack(results))
        else:
            future.set_exception(read_failure(*failure))

    def connection_lost(self, exc: Exception | None) -> None:
        """The process has ended: what it was asked is not answered, and another is started."""
        lost = "the engine's process has ended"
        with contextlib.suppress(subprocess.TimeoutExpired):
            lost += f" with code {self._child.wait(0.5)}"
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(NotReady(f"the model does not answer: {lost}"))
        self._waiting.clear()
        self._requests.clear()
        self._revival.begin(lost)

    async def _start_again(self) -> None:
        try:
            await self._reconnect()
        except BaseException:
            self._child.kill()
            raise

    async def _reconnect(self) -> None:
        self._child, self._socket = await in_thread(start, self.command, self._settings)
        if self._closed:
            self._child.kill()
            return
        self._frames, self._transport, self._connecting = FrameReader(), None, None
        self._heard = time.monotonic()
        await self._connect()
        # As its clients knew it: with the adapters that came and without those that went.
        for name in self._changes.unloaded:
            await self._ask(*self._number(), "unload_adapter", (name,))
        for name, path in self._changes.loaded.items():
            await self._ask(*self._number(), "load_adapter", (name, path))
        self._problem = None

    def health(self) -> str | None:
        """See the protocol."""
        if self._revival.lost is not None:
            return self._revival.lost
        silent = time.monotonic() - self._heard if self._transport is not None else 0.0
        if silent <= self._silence:
            return self._problem
        if silent > self._silence + BROKEN_SECONDS:
            self._child.kill()  # it hangs as a whole and cannot end itself
        return f"the engine's process has told nothing for over {self._silence:g} s"

    @property
    def mending(self) -> bool:
        """See Engine: what is started again is another process, however often that fails."""
        return self._revival.lost is not None

    def stats(self) -> Mapping[str, float]:
        """See the protocol; as the process told them last."""
        return self._stats

    def close(self) -> None:
        """See the protocol."""
        self._closed = True
        self._revival.close()
        self._revival.lost = self._revival.lost or "the server is stopping"
        self._child.kill()
        self._child.wait()


def start(
    command: Sequence[str], settings: Settings
) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """A process whose engine is loaded, and our end of its connection.

    Blocks for as long as the model takes. Raises StartupError with the child's own reason.
    """
    here, there = socket.socketpair()
    with there:
        child = subprocess.Popen(
            [*command, str(there.fileno())],
            pass_fds=[there.fileno()],
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # a signal to the server is the front's affair
        )
    try:
        values = {**asdict(settings), "base_dir": str(settings.base_dir)}
        here.sendall(write_frame(("settings", values)))
        problem = receive_frame(here)
    except (EOFError, OSError) as error:
        raise StartupError(
            f"the engine's process ended with code {child.wait()} while it loaded the model:"
            " -9 is mostly for want of memory"
        ) from error
    if problem is not None:
        child.wait()
        raise StartupError(problem)
    return child, here
