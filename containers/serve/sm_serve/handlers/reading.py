"""Bodies to values: the small ones at once, the large ones by a child process.

    python -m sm_serve.handlers.reading DESCRIPTOR MEMORY

is that child. A body of 6 MB can be a million values and take seconds to parse, in which the event
loop would answer nobody.
"""

from __future__ import annotations

import contextlib
import sys
from typing import Any

from sm_serve.errors import BadRequest, PayloadTooLarge, ServeError, read_failure, write_failure
from sm_serve.handlers.worker import Worker, WorkFailedError, work
from sm_serve.schemas import compression, documents
from sm_serve.schemas.documents import Document
from sm_serve.schemas.media import MediaType

MODULE = "sm_serve.handlers.reading"
SMALL = 20_000
"""Bytes of a body that is parsed at once: it takes less than a millisecond or two."""
MIDDLE = 300_000
"""Bytes up to which bodies wait for no larger one."""
SECONDS = 20.0
SECONDS_A_BYTE = 1e-6
MEMORY = 1 << 30
MEMORY_A_BYTE = 100
"""A body of empty objects takes so many times its size."""


class Reader:
    """Reads bodies; `largest` is the payload limit in bytes, `items` of SM_SERVE_MAX_ITEMS."""

    def __init__(self, largest: int, items: int) -> None:
        self._largest = largest
        self._items = items
        self._memory = str(max(MEMORY, largest * MEMORY_A_BYTE))
        self._lanes: tuple[Worker, Worker] | None = None

    async def read(self, body: bytes, media: MediaType, encoding: str = "") -> Document:
        """What a body holds, once its Content-Encoding is undone.

        Raises BadRequest, PayloadTooLarge or UnsupportedMediaType.
        """
        largest = self._largest if compression.codings(encoding) else len(body)
        if len(body) <= SMALL:
            # Of a compressed body more may come out: a child process finds out what.
            with contextlib.suppress(PayloadTooLarge):
                plain = compression.unpack(body, encoding, SMALL)
                return documents.read(plain, media, self._items)
        if self._lanes is None:
            self._lanes = Worker(MODULE, self._memory), Worker(MODULE, self._memory)
        lane = self._lanes[largest > MIDDLE]
        job = (body, encoding, self._largest, media.type, media.charset, self._items)
        try:
            failure, content = await lane.run(job, SECONDS + largest * SECONDS_A_BYTE)
        except WorkFailedError as error:
            raise BadRequest(
                f"the body cannot be read: {error}. Send less of it at once"
            ) from error
        if failure is not None:
            raise read_failure(*failure)
        return Document(*content)

    def close(self) -> None:
        """Ends the child processes."""
        for lane in self._lanes or ():
            lane.close()


def read_job(job: Any) -> Any:
    """A job of Reader's: a failure as plain values, or the document."""
    body, encoding, largest, kind, charset, items = job
    try:
        body = compression.unpack(body, encoding, largest)
        document = documents.read(body, MediaType(kind, charset), items)
    except ServeError as error:
        return write_failure(error), None
    except MemoryError:
        return (
            "BadRequest",
            "the body cannot be read: it needs too much memory",
            "bad_request",
        ), None
    unpacked = len(body) if compression.codings(encoding) else 0
    return None, (document.value, document.items, document.faults, document.lines, unpacked)


if __name__ == "__main__":
    work(int(sys.argv[1]), read_job, int(sys.argv[2]))
