"""The process of an encoder: loads the engine, answers what its front sends.

    python -m sm_serve.engines.process.worker DESCRIPTOR

DESCRIPTOR is one end of a socket pair. The first message is the settings; the answer is None once
the engine is loaded, or why it cannot be. The process ends when the other end is closed.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
import time
from collections.abc import Coroutine, Iterable
from itertools import islice
from pathlib import Path
from typing import Any, cast

from sm_serve.artefact.artefact import inspect
from sm_serve.config import Settings
from sm_serve.engines.background import describe, in_thread
from sm_serve.engines.process.frames import FrameReader, pack, unpack, write_frame
from sm_serve.engines.turns import OWNER
from sm_serve.errors import EngineError, ServeError, StartupError, write_failure
from sm_serve.platform.renewal import BROKEN_SECONDS
from sm_serve.telemetry.log import configure_logging

logger = logging.getLogger(__name__)

STATE_SECONDS = 0.25
"""How often health and gauges are told."""
FEW_INPUTS = 4
"""Requests with no more are answered together; a large one must not hold small ones up."""


class _Group:
    """Requests that the engine answers together, by their numbers."""

    def __init__(self, numbers: Iterable[int], work: Coroutine[Any, Any, None]) -> None:
        self.numbers = set(numbers)
        self.task = asyncio.ensure_future(work)

    def drop(self, number: int) -> None:
        """One of them is cancelled; without any the work is."""
        self.numbers.discard(number)
        if not self.numbers:
            self.task.cancel()


_Member = tuple[int, list[Any]]
"""A request's number and its inputs."""


class EngineProcess(asyncio.Protocol):
    """The connection to the front."""

    def __init__(self) -> None:
        self._frames = FrameReader()
        self._engine: Any = None
        self._groups: dict[int, _Group] = {}
        self._answers: list[tuple[int, tuple[str, ...] | None, bytes]] = []
        self._loading: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Without a front there is nothing to do, whatever a thread is busy with."""
        os._exit(0)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        for kind, *content in self._frames.feed(data):
            if kind == "settings":
                settings = content[0]
                settings["base_dir"] = Path(settings["base_dir"])
                settings["hub"] = None  # downloaded already: hub_path says where
                self._loading = asyncio.ensure_future(self._load(Settings(**settings)))
            elif kind == "predict":
                self._gather(*content)
            elif kind == "call":
                number, method, arguments = content
                self._begin([number], self._call(number, method, arguments))
            elif content[0] in self._groups:
                self._groups.pop(content[0]).drop(content[0])

    async def _load(self, settings: Settings) -> None:
        configure_logging(settings.log_level)
        try:
            self._engine = await in_thread(_load_engine, settings)
        except Exception as error:
            if not isinstance(error, StartupError):
                logger.exception("the model could not be loaded")
            self._transport.write(write_frame(describe(error)))
            self._transport.close()
            return
        self._transport.write(write_frame(None))
        sound = time.monotonic()
        while True:
            self._tell_state()
            if self._engine.health() is None:
                sound = time.monotonic()
            elif time.monotonic() - sound > BROKEN_SECONDS:
                logger.error("the engine stays broken (%s): ending", self._engine.health())
                os._exit(1)  # the front starts another
            await asyncio.sleep(STATE_SECONDS)

    def _tell_state(self) -> None:
        engine = self._engine
        state = ("state", engine.health(), dict(engine.stats()), list(engine.adapters()))
        self._transport.write(write_frame(state))

    def _gather(self, parameters: bytes, requests: list[tuple[int, int, bytes]]) -> None:
        """Asks the engine for small requests together, and for each large one alone.

        Those of an owner with several stay together: it takes its turns as one.
        """
        small: dict[int, list[_Member]] = {}
        for number, owner, packed in requests:
            inputs = unpack(packed)
            if len(inputs) > FEW_INPUTS:
                self._predict([(number, inputs)], parameters, owner)
            else:
                small.setdefault(owner, []).append((number, inputs))
        for owner, members in small.items():
            self._predict(members, parameters, owner)

    def _predict(self, members: list[_Member], parameters: bytes, owner: int) -> None:
        numbers = [number for number, _ in members]
        self._begin(numbers, self._answer(members, parameters, owner))

    def _begin(self, numbers: list[int], work: Coroutine[Any, Any, None]) -> None:
        group = _Group(numbers, work)
        self._groups.update(dict.fromkeys(numbers, group))

    async def _answer(self, members: list[_Member], parameters: bytes, owner: int) -> None:
        OWNER.set(owner)
        inputs = [each for _, inputs in members for each in inputs]
        try:
            results = iter(await self._engine.predict(inputs, unpack(parameters)))
            packed = [pack(list(islice(results, len(inputs)))) for _, inputs in members]
        except Exception as error:
            if len(members) == 1:
                self._finish(members[0][0], error)
                return
            # One of them is bad: each alone, so that the others get their answers.
            for member in members:
                self._predict([member], parameters, owner)
            return
        for (number, _), answer in zip(members, packed, strict=True):
            self._finish(number, None, answer)

    async def _call(self, number: int, method: str, arguments: Any) -> None:
        try:
            if method == "load_adapter":
                name, path = arguments
                await self._engine.load_adapter(name, Path(path))
            else:
                await self._engine.unload_adapter(*arguments)
        except Exception as error:
            self._finish(number, error)
            return
        self._tell_state()  # before the answer, so that the front lists what it says
        self._finish(number, None, pack(None))

    def _finish(self, number: int, error: Exception | None, answer: bytes = b"") -> None:
        failure: tuple[Any, ...] | None = None
        if isinstance(error, ServeError):
            failure = write_failure(error)
        elif error is not None:
            logger.error("a request failed", exc_info=error)
            failure = write_failure(EngineError(f"the engine failed ({type(error).__name__})"))
        self._groups.pop(number, None)
        if not self._answers:
            asyncio.get_running_loop().call_soon(self._send)
        self._answers.append((number, failure, answer))

    def _send(self) -> None:
        answers, self._answers = self._answers, []
        if any(failure is not None for _, failure, _ in answers):
            self._tell_state()  # it may be the engine's end
        self._transport.write(write_frame(("answers", answers)))


def _load_engine(settings: Settings) -> Any:
    from sm_serve.engines.registry import load_engine

    return load_engine(inspect(settings.model_dir, settings), settings)


async def serve(descriptor: int) -> None:
    """Answers until the front is gone."""
    loop = asyncio.get_running_loop()
    await loop.create_connection(EngineProcess, sock=socket.socket(fileno=descriptor))
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
