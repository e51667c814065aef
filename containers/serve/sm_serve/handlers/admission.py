"""What is let in at a time beside whole requests: bytes of bodies, and items of lists."""

from __future__ import annotations

from sm_serve.config import MEBIBYTE, Settings
from sm_serve.errors import TooManyRequests

LISTS = 4
"""Lists of the greatest length that may be in flight at a time."""
BODIES = 4
BODY_BYTES = 128 * MEBIBYTE
"""Bodies of the greatest size, or so many bytes of smaller ones."""


class Admission:
    """Counts over all requests in flight."""

    def __init__(self, settings: Settings) -> None:
        self.most_bytes = max(BODY_BYTES, BODIES * settings.max_payload_bytes)
        self.most_items = LISTS * settings.max_items
        self.bytes = 0
        self.items = 0

    def ticket(self) -> Ticket:
        """For one request."""
        return Ticket(self)


class Ticket:
    """What one request has of all; `close` gives it back."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._bytes = 0
        self._items = 0

    def take_bytes(self, count: int) -> None:
        """Of the body, as they arrive. TooManyRequests where memory is full of bodies."""
        admission = self._admission
        if self._bytes and admission.bytes + count > admission.most_bytes:
            raise TooManyRequests(
                f"{admission.bytes} bytes of bodies are held already: try again later"
            )
        self._bytes += count
        admission.bytes += count

    def take_items(self, count: int) -> None:
        """Texts, prompts times answers, lines, rows, messages, documents.

        TooManyRequests for more than can wait. The first one is free: a request of one item is
        never refused for others' lists.
        """
        admission = self._admission
        extra = max(count - 1, 0)
        if extra and admission.items + extra > admission.most_items:
            raise TooManyRequests(
                f"lists of {admission.items} items are in flight already: try again later"
            )
        self._items += extra
        admission.items += extra

    def close(self) -> None:
        """The request is answered."""
        self._admission.bytes -= self._bytes
        self._admission.items -= self._items
        self._bytes = self._items = 0
