"""Looking at something again and again until it has come to its end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TypeVar

Seen = TypeVar("Seen")


def watch(
    describe: Callable[[], Seen], final: Callable[[Seen], bool], interval: float
) -> Iterator[Seen]:
    """Every look, up to and including the first that is final.

    Args:
        describe: looks once.
        final: whether there is nothing more to wait for.
        interval: seconds between two looks; `Session.seconds_between_looks` fits its target.
    """
    while True:
        seen = describe()
        yield seen
        if final(seen):
            return
        time.sleep(interval)
