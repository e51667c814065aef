"""uvicorn's HTTP protocol: answers sent in one piece, the heads of requests bounded."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from sm_serve.errors import BadRequest
from sm_serve.http.connections import Waiting
from sm_serve.http.upgrades import Parser, without_offer

JOIN_BYTES = 65536
"""What may wait to be joined; beyond it the transport's flow control must have its say."""
MAX_HEAD_BYTES = 65536
"""Of a request's first line and headers; the parser would take them at any length."""
LOOK_SECONDS = 0.2
"""How often to look whether a client that sends no more has left."""
HEADER_SIGNS = 4
"""Beside a header's name and value: the colon, a blank, the end of the line."""
HEAD_SECONDS = 20.0
"""How long they may take to arrive."""


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

    answered = float("-inf")
    """When the last answer was complete, by the loop's clock."""
    _in_head = False
    _head_bytes = 0
    _no_more = False
    """Whether the client has closed its side."""
    _loose = 0
    """What came since the parser last told of a part: of a line that has no end yet."""
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See asyncio.Protocol. A client that says nothing is left as one that says no more."""
        super().connection_made(cast(asyncio.Transport, JoinedWrites(transport, self.loop)))
        self._waiting.add(self)
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )

    def __init__(self, *args: Any, waiting: Waiting, **options: Any) -> None:
        super().__init__(*args, **options)
        self._waiting = waiting
        self._renew_parser()

    def _place(self) -> None:
        """Among those that wait, unless the request has come whole and is being answered."""
        cycle = self.cycle
        if cycle is None or cycle.response_complete or cycle.more_body:
            if not self.transport.is_closing():
                self._waiting.add(self)
        else:
            self._waiting.remove(self)

    def leave(self) -> None:
        """See connections.Connection."""
        if not self.transport.is_closing():
            self.transport.close()

    def _renew_parser(self) -> None:
        self.parser = Parser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)

    def decline_upgrade(self, rest: bytes) -> None:
        """The request again without its offer of another protocol, with its body."""
        parser = self.parser
        head = without_offer(parser.get_method(), self.url, parser.get_http_version(), self.headers)
        self._renew_parser()
        self.parser.feed_data(head + rest)

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client sends no more: what it has sent is answered before the connection closes.

        One that has left altogether looks the same until it is sent something: 100 Continue, which
        may come before any answer, makes its system reset the connection.
        """
        cycle = self.cycle
        if cycle is None or cycle.response_complete or cycle.more_body or self._in_head:
            return False
        self._no_more = True
        if not cycle.response_started and self.scope["http_version"] == "1.1":
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.loop.call_later(LOOK_SECONDS, self._look_for_reset)
        return True

    def _look_for_reset(self) -> None:
        """Whether the client has left; nobody else tells, as nothing is read any more."""
        cycle = self.cycle
        if self.transport.is_closing() or cycle.response_started:
            return
        peer = self.transport.get_extra_info("socket")
        if peer.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.transport.abort()
        else:
            self.loop.call_later(LOOK_SECONDS, self._look_for_reset)

    def on_response_complete(self) -> None:
        """See uvicorn."""
        super().on_response_complete()
        self.answered = self.loop.time()
        self._place()
        if self._no_more and self.cycle.response_complete and not self.transport.is_closing():
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol. A timer that goes on would keep all of the connection's memory."""
        self._stop_timer()
        self._waiting.remove(self)
        super().connection_lost(exc)
        self._unset_keepalive_if_required()  # uvicorn leaves it where the client has reset

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        self._loose += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._head_bytes + self._loose > MAX_HEAD_BYTES:
            self._too_long()
        elif self._in_head and self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self._head_is_late)

    def on_message_begin(self) -> None:
        """See httptools."""
        super().on_message_begin()
        self._in_head, self._head_bytes = True, 0
        self._place()

    def on_url(self, url: bytes) -> None:
        """See httptools: a piece of it."""
        if self._counted(len(url)):
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """See httptools. What comes after a body (trailers) is counted, and is no header."""
        if self._counted(len(name) + len(value) + HEADER_SIGNS) and self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """See httptools."""
        if self.parser.should_upgrade():  # see decline_upgrade
            return
        self._in_head, self._head_bytes, self._loose = False, 0, 0
        self._stop_timer()
        if not self.transport.is_closing():
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """See httptools."""
        self._loose = 0
        if not self.transport.is_closing():
            super().on_body(body)

    def on_message_complete(self) -> None:
        """See httptools."""
        if self.parser.should_upgrade():
            return
        self._head_bytes, self._loose = 0, 0
        if not self.transport.is_closing():
            super().on_message_complete()
            self._place()

    def _counted(self, size: int) -> bool:
        """Counts a part of a head or of trailers; whether it may be kept."""
        self._head_bytes += size
        self._loose = 0
        if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self._too_long()
        return not self.transport.is_closing()

    def _too_long(self) -> None:
        part = "first line and headers" if self._in_head else "trailers and chunk extensions"
        self._refuse(431, f"{part} are over {MAX_HEAD_BYTES} bytes")

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP is refused in the form of all errors."""
        self._refuse(400, msg)

    def _head_is_late(self) -> None:
        if self._in_head and not self.transport.is_closing():
            self._refuse(408, f"first line and headers took over {HEAD_SECONDS:g} s")

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _refuse(self, status: int, message: str) -> None:
        """Ends the connection with an error, unless an answer to another request is on its way."""
        cycle = self.cycle
        unanswered = cycle is not None and not cycle.response_complete
        if unanswered and (self._in_head or cycle.response_started):
            self.transport.close()
            return
        body = json.dumps(BadRequest(message).body()).encode()
        head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
        self.transport.write(STATUS_LINE[status] + head % len(body) + body)
        self.transport.close()
