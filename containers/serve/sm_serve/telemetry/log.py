"""The log: one line an event on standard output, for every process of the server."""

from __future__ import annotations

import logging
import sys


def configure_logging(level: str) -> None:
    """Lines with time and level on standard output, where the platform collects them."""
    logging.basicConfig(
        level=level, stream=sys.stdout, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    for noisy in ("uvicorn.error", "httpx", "urllib3", "filelock"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLevelName(level)))
