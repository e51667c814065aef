"""The `serve` command: check, bind, load in the background, answer, drain, exit."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import socket
import sys
from functools import partial
from types import FrameType
from typing import Any, cast

import uvicorn

from sm_serve.config import Settings, load_settings
from sm_serve.errors import StartupError
from sm_serve.http.connections import Waiting, most_connections
from sm_serve.http.protocol import HttpProtocol
from sm_serve.http.server import build_app
from sm_serve.platform import renewal
from sm_serve.platform.compat import start_compatibly
from sm_serve.platform.scratch import ensure_temporary_directory
from sm_serve.service import Service
from sm_serve.stock_variables import unheeded
from sm_serve.telemetry.log import configure_logging

logger = logging.getLogger("sm_serve")

BACKLOG = 2048
"""Connections that may wait to be accepted."""
ACCEPTED_AT_ONCE = 64
"""After so many others have their turn: asyncio would take all that wait in one go."""
SPIN_COUNT = "10000"
"""How long (about 0.1 ms) a thread of torch's OpenMP waits busily for the others, unless the
environment says otherwise.

OpenMP's own 300,000 is for a machine of its own. Here the event loop needs processors too, and when
the scheduler puts two of torch's threads on one of them, each waits out a whole time slice for the
other, dozens of times in a forward pass.
"""
KEEP_ALIVE_SECONDS = 75
"""How long a connection may ask for nothing."""
LATE_REQUEST_SECONDS = 0.3
"""How long connections may take to send a request after the last were accepted."""
NEXT_REQUEST_SECONDS = 1.5
"""How soon after an answer a client in a loop sends its next one."""
FIRST_REQUEST_SECONDS = 5.0
"""How long a client may take to send its first one: on a busy machine its thread has to wait."""


class Server(uvicorn.Server):
    """uvicorn that drains before it shuts down, and exits 0 after SIGTERM."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service
        self._draining: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listens first and loads then, so that /ping answers 503 in the meantime."""
        await super().startup(sockets)
        for listener in sockets or ():
            listener.listen(BACKLOG)  # asyncio makes it as many as it accepts at once
        self._loop = asyncio.get_running_loop()
        self._service.start(on_failure=self._stop, on_broken=renewal.hand_on)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """On the first SIGTERM or SIGINT drain, on the second end at once."""
        logger.info("%s: draining", signal.Signals(sig).name)
        if self._draining is not None or not self.started:
            self._stop()
            self.force_exit = True
            return
        self._loop.call_soon_threadsafe(self._begin_drain)

    def _begin_drain(self) -> None:
        if self._draining is None:
            self._draining = self._loop.create_task(self._drain())

    async def _drain(self) -> None:
        await self._service.drain()
        await self._stop_accepting()
        self._stop()

    async def _stop_accepting(self) -> None:
        """Closes the listeners without resetting anybody.

        The kernel resets connections that wait to be accepted when a listener is closed, and
        uvicorn closes accepted ones that have not sent their request yet. So all that wait are
        accepted in the same breath as the listener closes, and get a moment for their request.
        """
        for server in self.servers:
            for listener in server.sockets:
                self._loop.remove_reader(listener.fileno())
                waiting = _accept_all(listener.fileno())
                server.close()
                for connection in waiting:
                    await self._loop.connect_accepted_socket(self._protocol, connection)
        began = self._loop.time()
        await asyncio.sleep(LATE_REQUEST_SECONDS)
        while self._anybody_sends(self._loop.time() - began):
            await asyncio.sleep(0.02)

    def _anybody_sends(self, waited: float) -> bool:
        """Whether a request may be on its way: a client's first, or the next of one in a loop."""
        connections = cast("set[HttpProtocol]", self.server_state.connections)
        lately = self._loop.time() - NEXT_REQUEST_SECONDS
        return any(
            waited < FIRST_REQUEST_SECONDS
            if connection.cycle is None
            else waited < NEXT_REQUEST_SECONDS and connection.answered > lately
            for connection in connections
        )

    def _protocol(self) -> asyncio.Protocol:
        protocol: asyncio.Protocol = self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state={}, _loop=self._loop
        )
        return protocol

    def _stop(self) -> None:
        self.should_exit = True


def _accept_all(descriptor: int) -> list[socket.socket]:
    """Connections that wait on a listening socket."""
    waiting: list[socket.socket] = []
    with socket.socket(
        socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, fileno=os.dup(descriptor)
    ) as listener:
        listener.setblocking(False)
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return waiting
            connection.setblocking(False)
            waiting.append(connection)


def bind(settings: Settings) -> socket.socket:
    """The listening socket. StartupError names the port when it is taken."""
    # asyncio sets TCP_NODELAY only where the protocol is named; without it every answer would
    # wait about 40 ms for the client's delayed acknowledgement.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise StartupError(
                f"port {settings.port} is taken: stop what listens there, or set"
                " SAGEMAKER_BIND_TO_PORT to a free one"
            ) from error
        raise StartupError(
            f"cannot listen on {settings.host}:{settings.port}: {error.strerror}"
        ) from error
    listener.setblocking(False)
    return listener


def take_over(descriptor: int) -> socket.socket | None:
    """The listening socket of the server before, which began anew as this one."""
    if descriptor < 0:
        return None
    os.set_inheritable(descriptor, False)
    return socket.socket(fileno=descriptor)


def configure(app: Any, most: int) -> uvicorn.Config:
    """uvicorn's settings for an ASGI application; `most` connections may ask for nothing."""
    return uvicorn.Config(
        app,
        # Named, not "auto": draining takes connections over from the loop, and a parser in C halves
        # what a request costs.
        loop="asyncio",
        # It is called as a class would be; its connections share one bound.
        http=cast("Any", partial(HttpProtocol, waiting=Waiting(most))),
        proxy_headers=False,
        log_config=None,
        access_log=False,
        lifespan="off",
        backlog=ACCEPTED_AT_ONCE,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=2,
    )


def main() -> int:
    """Runs the server; the exit code is 0 after a signal and 1 when it could not start."""
    start_compatibly()
    try:
        settings = load_settings()
        configure_logging(settings.log_level)
        ensure_temporary_directory()
        for line in unheeded(os.environ, settings):
            logger.warning("%s", line)
        service = Service(settings, renewal.received(os.environ))
        service.check()
        listener = take_over(service.handed.listener) or bind(settings)
        service.handed.listener = listener.fileno()
        if "OMP_WAIT_POLICY" not in os.environ:
            os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)  # read when torch is loaded
    except StartupError as error:
        sys.stderr.write(f"serve: {error}\n")
        return 1
    most = most_connections(settings.max_connections, settings.max_in_flight)
    logger.info("listening on port %d; %d connections may ask for nothing", settings.port, most)
    Server(configure(build_app(service), most), service).run(sockets=[listener])
    service.close()
    if service.failure is not None:
        sys.stderr.write(f"serve: {service.failure}\n")
        return 1
    return 0
