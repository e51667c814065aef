"""A child process for one kind of work that a client could make endless: killed when it is.

Python's parsers hold all threads up while they run, and no thread can be stopped. A process can.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from sm_serve.engines.process.frames import pack, receive_frame, unpack, write_frame

NICENESS = 5
"""The front must get the processor before its children."""


class WorkFailedError(Exception):
    """The child took too long, or ended before its answer (mostly for want of memory)."""


class Worker:
    """Does one job after the other, in `python -m MODULE DESCRIPTOR ARGUMENTS`.

    The child is started when it is first needed.
    """

    def __init__(self, module: str, *arguments: str) -> None:
        self._command = (sys.executable, "-m", module)
        self._arguments = arguments
        self._lock = asyncio.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def run(self, job: Any, seconds: float) -> Any:
        """The child's answer to a job of plain values. Raises WorkFailedError.

        A caller that leaves while it waits for its turn gives no work to the child.
        """
        await self._lock.acquire()
        # A started job must be read to its end, or the next one would get its answer.
        return await asyncio.shield(asyncio.ensure_future(self._exchange(job, seconds)))

    async def _exchange(self, job: Any, seconds: float) -> Any:
        try:
            async with asyncio.timeout(seconds):
                reader, writer = self._streams or await self._start()
                writer.write(write_frame(job))
                await writer.drain()
                size = int.from_bytes(await reader.readexactly(8), "big")
                return unpack(await reader.readexactly(size))
        except TimeoutError:
            self.close()
            raise WorkFailedError(f"it took over {seconds:g} s") from None
        except (OSError, asyncio.IncompleteReadError) as error:
            self.close()
            raise WorkFailedError("it needs too much memory") from error
        finally:
            self._lock.release()

    async def _start(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        here, there = socket.socketpair()
        with there:
            self._child = subprocess.Popen(
                [*self._command, str(there.fileno()), *self._arguments],
                pass_fds=[there.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # a signal to the server is the front's affair
            )
        self._streams = await asyncio.open_connection(sock=here)
        return self._streams

    def close(self) -> None:
        """Ends the child; the next job starts another."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            self._child = None
        if self._streams is not None:
            with contextlib.suppress(RuntimeError):  # the event loop has ended before
                self._streams[1].close()
            self._streams = None


def work(descriptor: int, function: Callable[[Any], Any], memory: int) -> None:
    """The child's side: answers jobs until the front is gone, within `memory` bytes."""
    import resource

    os.nice(NICENESS)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    with socket.socket(fileno=descriptor) as connection:
        while True:
            try:
                job = receive_frame(connection)
            except EOFError:
                return
            data = pack(function(job))
            connection.sendall(len(data).to_bytes(8, "big") + data)
