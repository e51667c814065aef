"""The process of an encoder: loads the engine, answers what its front sends.

    python -m sm_serve.engines.process_main DESCRIPTOR

DESCRIPTOR is one end of a socket pair. The first message is the settings; the answer is None once
the engine is loaded, or why it cannot be. The process ends when the other end is closed.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from pathlib import Path
from typing import Any, cast

from sm_serve.artefact import inspect
from sm_serve.background import describe, in_thread
from sm_serve.config import Settings
from sm_serve.engines.frames import FrameReader, pack, unpack, write_frame
from sm_serve.engines.process import write_failure
from sm_serve.errors import EngineError, ServeError, StartupError
from sm_serve.log import configure_logging

logger = logging.getLogger(__name__)

STATE_SECONDS = 0.25
"""How often health and gauges are told."""


class EngineProcess(asyncio.Protocol):
    """The connection to the front."""

    def __init__(self) -> None:
        self._frames = FrameReader()
        self._engine: Any = None
        self._tasks: dict[int, asyncio.Task[None]] = {}
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
        for message in self._frames.feed(data):
            if isinstance(message, dict):
                settings = Settings(**{**message, "base_dir": Path(message["base_dir"])})
                self._loading = asyncio.ensure_future(self._load(settings))
            elif message[0] == "calls":
                for number, call in message[1]:
                    self._tasks[number] = asyncio.ensure_future(self._answer(number, call))
            elif message[1] in self._tasks:
                self._tasks[message[1]].cancel()

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
        while True:
            self._tell_state()
            await asyncio.sleep(STATE_SECONDS)

    def _tell_state(self) -> None:
        engine = self._engine
        state = ("state", engine.health(), dict(engine.stats()), list(engine.adapters()))
        self._transport.write(write_frame(state))

    async def _answer(self, number: int, call: bytes) -> None:
        failure: tuple[str, ...] | None = None
        results = b""
        try:
            results = pack(await self._call(*unpack(call)))
        except asyncio.CancelledError:
            return
        except ServeError as error:
            failure = write_failure(error)
        except Exception as error:
            logger.exception("a request failed")
            failure = write_failure(EngineError(f"the engine failed ({type(error).__name__})"))
        finally:
            del self._tasks[number]
        if not self._answers:
            asyncio.get_running_loop().call_soon(self._send)
        self._answers.append((number, failure, results))

    async def _call(self, method: str, arguments: Any) -> Any:
        if method == "predict":
            return await self._engine.predict(*arguments)
        if method == "load_adapter":
            name, path = arguments
            await self._engine.load_adapter(name, Path(path))
        else:
            await self._engine.unload_adapter(*arguments)
        self._tell_state()  # before the answer, so that the front lists what it says
        return None

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
