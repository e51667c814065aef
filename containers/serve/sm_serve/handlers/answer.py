"""What a handler gets and gives, free of any web framework."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field

from sm_serve.errors import ServeError
from sm_serve.handlers.admission import Ticket
from sm_serve.handlers.reading import Reader
from sm_serve.schemas import documents
from sm_serve.schemas.documents import Document
from sm_serve.schemas.media import MediaType


@dataclass(frozen=True, slots=True)
class Incoming:
    """An HTTP request read to its end. Header names are in lower case."""

    body: bytes
    headers: Mapping[str, str]
    id: str = ""
    reader: Reader | None = None
    ticket: Ticket | None = None

    async def read(self, content: MediaType) -> Document:
        """What the body holds, its items counted. Raises BadRequest, TooManyRequests."""
        if self.reader is None:
            return documents.read(self.body, content, sys.maxsize)
        encoding = self.headers.get("content-encoding", "")
        document = await self.reader.read(self.body, content, encoding)
        if self.ticket is not None:
            self.ticket.take_bytes(document.unpacked)
            self.ticket.take_items(document.items)
        return document

    @property
    def content_type(self) -> str | None:
        """The Content-Type header."""
        return self.headers.get("content-type")

    @property
    def accept(self) -> str | None:
        """The Accept header."""
        return self.headers.get("accept")


@dataclass(frozen=True, slots=True)
class Answer:
    """A response. A streamed one turns an error on the way into a last piece by `on_error`."""

    body: bytes | AsyncIterator[bytes]
    media_type: str
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    on_error: Callable[[ServeError], bytes] | None = None


async def started(pieces: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """Waits for the first piece, so that a refusal is still a proper HTTP status."""
    try:
        first = await anext(pieces)
    except StopAsyncIteration:
        first = b""

    async def chained() -> AsyncGenerator[bytes]:
        async with contextlib.aclosing(pieces):
            yield first
            async for piece in pieces:
                yield piece

    return chained()
