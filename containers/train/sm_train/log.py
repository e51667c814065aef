"""What a job writes to its log."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from logging import WARNING, getLogger
from typing import Any


def print_line(text: str) -> None:
    """A line that shows at once, also where stdout is a pipe."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def quiet_libraries() -> None:
    """No library draws bars into the log, says everything twice, or warns us of its own plans."""
    import datasets
    from transformers.utils import logging

    for handler in getLogger("transformers").handlers[1:]:
        logging.remove_handler(handler)
    datasets.disable_progress_bars()
    logging.disable_progress_bar()
    logging.disable_propagation()
    getLogger("sentence_transformers").setLevel(WARNING)
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers|trl|peft")


@contextmanager
def without_bars() -> Iterator[None]:
    """For libraries that draw bars and have no switch for it."""
    from tqdm import tqdm

    former = tqdm.__init__

    def silent(self: Any, *arguments: Any, **named: Any) -> None:
        former(self, *arguments, **{**named, "disable": True})

    tqdm.__init__ = silent
    try:
        yield
    finally:
        tqdm.__init__ = former
