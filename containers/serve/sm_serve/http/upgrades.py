"""Offers to go on in another protocol are declined: the request is answered as it is.

Java's HTTP client offers HTTP/2 (`Upgrade: h2c`) with its first request. httptools takes such a
request's head for all of it, and its body would be lost.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import httptools

OFFER = frozenset({b"upgrade", b"http2-settings", b"connection"})


class Connection(Protocol):
    """What an offer is declined to."""

    def decline_upgrade(self, rest: bytes) -> None:
        """The head has been read; `rest` is what came after it."""
        ...


class Parser(httptools.HttpRequestParser):
    """httptools' parser that hands offers over."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._connection = connection

    def feed_data(self, data: Any) -> None:
        """See httptools."""
        try:
            super().feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            self._connection.decline_upgrade(bytes(data[offer.args[0] :]))


def without_offer(
    method: bytes, url: bytes, version: str, headers: Iterable[tuple[bytes, bytes]]
) -> bytes:
    """The head of a request again, as a client without an offer would have sent it."""
    kept = [(name, value) for name, value in headers if name not in OFFER]
    tokens = {
        token.strip().lower()
        for name, value in headers
        if name == b"connection"
        for token in value.split(b",")
    }
    if b"close" in tokens:
        kept.append((b"connection", b"close"))
    lines = [b"%s %s HTTP/%s" % (method, url, version.encode())]
    lines += [b"%s: %s" % header for header in kept]
    return b"\r\n".join(lines) + b"\r\n\r\n"
