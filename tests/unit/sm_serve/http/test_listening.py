"""New connections, however many, take turns with those that are there."""

import asyncio
import contextlib
import socket
from itertools import pairwise
from types import SimpleNamespace

from sm_serve.config import Settings
from sm_serve.main import ACCEPTED_AT_ONCE, Server, bind, configure

MANY = 4 * ACCEPTED_AT_ONCE


async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def accepted_by_step(listener, address, clients):
    """How many connections are there after each step of the loop, while many wait."""
    config = configure(app, MANY)
    config.load()
    server = Server(config, SimpleNamespace(start=lambda **_: None))
    server.lifespan = config.lifespan_class(config)
    await server.startup([listener])
    for _ in range(MANY):  # the kernel takes them all; nothing is accepted before the loop goes on
        clients.enter_context(socket.create_connection(address, timeout=5))
    counts = [0]
    async with asyncio.timeout(10):
        while counts[-1] < MANY:
            await asyncio.sleep(0)
            counts.append(len(server.server_state.connections))
    await server.shutdown()
    return counts


def test_a_flood_of_connections_leaves_every_step_to_others():
    listener = bind(Settings(host="127.0.0.1", port=0))
    with contextlib.ExitStack() as clients:
        counts = asyncio.run(accepted_by_step(listener, listener.getsockname(), clients))
    assert max(after - before for before, after in pairwise(counts)) <= ACCEPTED_AT_ONCE
