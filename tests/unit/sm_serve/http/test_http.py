"""The HTTP protocol against unusual clients, in this process over real sockets."""

import asyncio
import contextlib
import gzip
import zlib
from functools import partial

import pytest
import uvicorn

from sm_serve.errors import BadRequest, PayloadTooLarge, UnsupportedMediaType
from sm_serve.http.connections import Waiting, most_connections
from sm_serve.http.protocol import HttpProtocol
from sm_serve.schemas.compression import unpack

BODY = b'{"inputs": "x"}'
JAVA = (
    b"POST /invocations HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nHost: h\r\n"
    b"HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\nUpgrade: h2c\r\n"
)
LENGTH = b"Content-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
PLAIN = b"POST / HTTP/1.1\r\nHost: h\r\n"
cancelled = []


async def echo(scope, receive, send):
    """Answers with the body after a moment; tells of clients that left."""
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    if scope["path"] == "/slow":
        while (await receive())["type"] != "http.disconnect":
            pass
        cancelled.append(scope["path"])
        return
    await asyncio.sleep(0.05)
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@contextlib.asynccontextmanager
async def serving(most=100):
    config = uvicorn.Config(
        echo,
        http=partial(HttpProtocol, waiting=Waiting(most)),
        lifespan="off",
        log_config=None,
        port=0,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext
    task = asyncio.create_task(server.serve())
    try:
        async with asyncio.timeout(20):
            while not server.started:
                await asyncio.sleep(0.01)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await task


def exchange(*pieces, half_close=False, until=1):
    async def run():
        async with serving() as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.01)
            if half_close:
                writer.write_eof()
            answer = b""
            while answer.count(BODY) < until:
                data = await asyncio.wait_for(reader.read(65536), 20)
                if not data:
                    break
                answer += data
            rest = await asyncio.wait_for(reader.read(), 20) if half_close else b""
            writer.close()
            return answer + rest

    return asyncio.run(run())


@pytest.mark.parametrize("body", [LENGTH, CHUNKED])
@pytest.mark.parametrize("pieces", [1, 2, 7])
def test_an_offer_of_another_protocol_is_declined_and_the_body_kept(body, pieces):
    whole = JAVA + body + PLAIN + LENGTH
    size = -(-len(whole) // pieces)
    answer = exchange(*(whole[i : i + size] for i in range(0, len(whole), size)), until=2)
    assert answer.count(b"HTTP/1.1 200 OK") == 2
    assert answer.count(BODY) == 2


def test_an_offer_of_websockets_is_declined_too():
    head = PLAIN + b"Connection: upgrade\r\nUpgrade: websocket\r\n"
    assert exchange(head + LENGTH).endswith(BODY)


def test_a_client_that_closes_its_side_is_answered_and_then_closed():
    answer = exchange(PLAIN + LENGTH, half_close=True)
    assert b"HTTP/1.1 200 OK" in answer
    assert answer.endswith(BODY)


def test_a_client_that_leaves_is_noticed():
    async def run():
        async with serving() as port:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(PLAIN.replace(b" / ", b" /slow ") + LENGTH)
            await writer.drain()
            await asyncio.sleep(0.05)
            writer.close()
            for _ in range(500):
                if cancelled:
                    return
                await asyncio.sleep(0.02)

    cancelled.clear()
    asyncio.run(run())
    assert cancelled == ["/slow"]


def test_compressed_bodies_are_unpacked_within_the_limit():
    assert unpack(gzip.compress(BODY), "gzip", 100) == BODY
    assert unpack(gzip.compress(BODY) + gzip.compress(b"!"), "X-Gzip", 100) == BODY + b"!"
    assert unpack(zlib.compress(BODY), "deflate", 100) == BODY
    assert unpack(gzip.compress(b""), "gzip", 100) == b""
    assert unpack(BODY, "identity", 3) == BODY
    bomb = gzip.compress(bytes(10_000_000))
    with pytest.raises(PayloadTooLarge, match="unpacked"):
        unpack(bomb, "gzip", 1000)
    for body in (BODY, gzip.compress(BODY)[:-9], gzip.compress(BODY) + b"x", b""):
        with pytest.raises(BadRequest):
            unpack(body, "gzip", 1000)
    for encoding in ("br", "gzip, gzip", "zstd"):
        with pytest.raises(UnsupportedMediaType):
            unpack(BODY, encoding, 1000)


@pytest.mark.slow
def test_idle_connections_over_the_bound_make_room_and_busy_ones_stay():
    async def run():
        async with serving(most=20) as port:
            busy = [await asyncio.open_connection("127.0.0.1", port) for _ in range(5)]
            for _, writer in busy:
                writer.write(b"GET /slow HTTP/1.1\r\nHost: h\r\n\r\n")
                await writer.drain()
            slow = await asyncio.open_connection("127.0.0.1", port)
            slow[1].write(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nab")
            await asyncio.sleep(0.2)
            idle = []
            for _ in range(300):
                idle.append(await asyncio.open_connection("127.0.0.1", port))
                if len(idle) % 50 == 0:  # as the platform's /ping, on a connection of its own
                    reader, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.write(PLAIN + LENGTH)
                    answer = await asyncio.wait_for(reader.readuntil(BODY), 5)
                    assert answer.startswith(b"HTTP/1.1 200")
                    idle.append((reader, writer))
            await asyncio.sleep(0.3)
            closed = [reader.at_eof() for reader, _ in idle]
            assert sum(not each for each in closed) == 20
            assert not any(closed[-20:])  # the oldest have gone
            assert slow[0].at_eof()
            assert not any(reader.at_eof() for reader, _ in busy)
            for _, writer in (*idle, *busy, slow):
                writer.close()
            await asyncio.sleep(0.1)

    asyncio.run(run())


def test_the_bound_fits_the_limit_of_open_files(monkeypatch):
    import resource

    set_to = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 4096))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: set_to.append(limits))
    assert most_connections(0, 256) == (4096 - 256 - 512) // 2
    assert most_connections(100, 256) == 100
    assert most_connections(9000, 256) == (4096 - 256 - 512) // 2
    assert set_to == [(4096, 4096)] * 3
