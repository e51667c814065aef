"""Messages between the front and an engine's process: plain values, their length before them.

marshal writes texts, numbers, lists and dicts several times as fast as JSON. It is safe here alone:
both ends are this program under one Python, and bytes from elsewhere never get here.
"""

from __future__ import annotations

import marshal
import socket
import struct
from collections.abc import Iterator
from typing import Any

_LENGTH = struct.Struct(">Q")
_VERSION = 2
"""Of marshal's format: later ones write what depends on who else holds a value."""


def pack(value: Any) -> bytes:
    """A value as bytes, equal ones as equal bytes. ValueError for more than plain values."""
    return marshal.dumps(value, _VERSION)


def unpack(data: bytes | bytearray) -> Any:
    """The value again."""
    return marshal.loads(data)  # noqa: S302 - see above


def write_frame(message: Any) -> bytes:
    """A message with its length."""
    data = pack(message)
    return _LENGTH.pack(len(data)) + data


class FrameReader:
    """Puts messages together from the pieces in which they arrive."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> Iterator[Any]:
        """The messages that are complete with these bytes."""
        self._data += data
        while len(self._data) >= _LENGTH.size:
            end = _LENGTH.size + _LENGTH.unpack_from(self._data)[0]
            if len(self._data) < end:
                return
            message = unpack(self._data[_LENGTH.size : end])
            del self._data[:end]
            yield message


def receive_frame(connection: socket.socket) -> Any:
    """Waits for one message and reads no further. EOFError when the other end is closed first."""
    return unpack(_receive(connection, _LENGTH.unpack(_receive(connection, _LENGTH.size))[0]))


def _receive(connection: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            raise EOFError
        data += piece
    return bytes(data)
