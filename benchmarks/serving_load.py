"""A lean load generator: HTTP/1.1 with kept connections on one event loop.

On a small machine the clients share the processors with the server under test, so a client library
that costs a millisecond a request would be most of what is measured. This one costs about a tenth
of that, the same for every server, and what it costs is reported.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

TIMEOUT_SECONDS = 600


@dataclass(slots=True)
class Reply:
    """A response, with the seconds from sending to its first and last byte of body."""

    status: int
    body: bytes
    first: float
    total: float


@dataclass(slots=True)
class Load:
    """What a run saw: replies in the order of the requests."""

    replies: list[Reply] = field(default_factory=list)
    wall: float = 0.0
    client_seconds: float = 0.0

    def percentile(self, share: int, moment: str = "total") -> float:
        """Milliseconds that this percentage of the requests stayed below."""
        values = sorted(getattr(reply, moment) for reply in self.replies)
        return round(1000 * float(values[(len(values) - 1) * share // 100]), 2)


def write_post(path: str, body: dict[str, Any]) -> bytes:
    """A whole HTTP request."""
    content = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


class Connection:
    """One client: a connection that asks one thing at a time."""

    def __init__(
        self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._port = port
        self._reader = reader
        self._writer = writer

    async def ask(self, request: bytes) -> Reply:
        """Sends a request and reads its answer to the end; on a new connection where the server
        has closed this one after an answer, as llama.cpp's does after a stream."""
        began = time.perf_counter()
        self._writer.write(request)
        try:
            head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        except (asyncio.IncompleteReadError, ConnectionResetError):
            self._writer.close()
            self._reader, self._writer = await open_streams(self._port)
            self._writer.write(request)
            head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        status = int(head[9:12])
        at = head.find(b"content-length:")
        if at >= 0:
            size = int(head[at + 15 : head.index(b"\r", at)])
            body = await self._reader.readexactly(size)
            moment = time.perf_counter() - began
            return Reply(status, body, moment, moment)
        pieces: list[bytes] = []
        first = 0.0
        while size := int(await self._reader.readline(), 16):
            pieces.append(await self._reader.readexactly(size))
            first = first or time.perf_counter() - began
            await self._reader.readexactly(2)
        await self._reader.readexactly(2)
        return Reply(status, b"".join(pieces), first, time.perf_counter() - began)

    def close(self) -> None:
        """Ends the connection."""
        self._writer.close()


async def open_streams(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Both ends of a new connection to a server on this machine."""
    return await asyncio.open_connection("127.0.0.1", port, limit=1 << 24)


async def connect(port: int) -> Connection:
    """A connection to a server on this machine."""
    return Connection(port, *await open_streams(port))


async def _run(port: int, requests: list[bytes], clients: int, seconds: float) -> Load:
    load = Load([Reply(0, b"", 0, 0)] * len(requests))
    left: Iterator[tuple[int, bytes]] = iter(enumerate(requests))

    async def client(connection: Connection) -> None:
        for index, request in left:
            load.replies[index] = await connection.ask(request)
        connection.close()

    async with asyncio.timeout(seconds):
        connections = [await connect(port) for _ in range(min(clients, len(requests)))]
        used, began = time.process_time(), time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for connection in connections:
                group.create_task(client(connection))
    load.wall = time.perf_counter() - began
    load.client_seconds = time.process_time() - used
    failed = [reply for reply in load.replies if reply.status != 200]
    if failed:
        raise SystemExit(f"{len(failed)} failures: {failed[0].status} {failed[0].body[:300]!r}")
    return load


def run_load(
    port: int, requests: list[bytes], clients: int, seconds: float = TIMEOUT_SECONDS
) -> Load:
    """All requests by so many clients, each sending its next when it has its answer. TimeoutError
    where the answers are not all there after so many seconds."""
    return asyncio.run(_run(port, requests, clients, seconds))


def try_once(port: int, request: bytes, seconds: float = 120) -> int:
    """Status of one request; 0 when there was no answer."""

    async def work() -> int:
        async with asyncio.timeout(seconds):
            connection = await connect(port)
            try:
                return (await connection.ask(request)).status
            finally:
                connection.close()

    try:
        return asyncio.run(work())
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        return 0
