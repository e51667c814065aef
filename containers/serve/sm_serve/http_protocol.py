"""uvicorn's HTTP protocol, with the head and body of an answer sent together."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

JOIN_BYTES = 65536
"""What may wait to be joined; beyond it the transport's flow control must have its say."""


class JoinedWrites:
    """A transport that sends in one piece what is written in one turn of the event loop.

    uvicorn writes head and body apart. Two calls into the kernel cost two, and for each the thread
    gives Python up to the model's thread and has to wait until it gets it back.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._waiting: list[bytes] = []
        self._size = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Sends at the end of this turn."""
        if not self._waiting:
            self._loop.call_soon(self._flush)
        self._waiting.append(data)
        self._size += len(data)
        if self._size > JOIN_BYTES:
            self._flush()

    def close(self) -> None:
        """Sends what waits, and ends the connection."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._waiting:
            self._transport.write(b"".join(self._waiting))
            self._waiting.clear()
            self._size = 0


class HttpProtocol(HttpToolsProtocol):
    """A connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See asyncio.Protocol."""
        super().connection_made(cast(asyncio.Transport, JoinedWrites(transport, self.loop)))
