"""The process of a multi-model endpoint's member that brings a script of its own."""

from __future__ import annotations

import os
import sys
import threading


def end_with_parent() -> None:
    """The parent holds the other end of standard input: it closes when the parent is gone."""
    while os.read(0, 4096):
        pass
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=end_with_parent, daemon=True).start()
    from sm_serve.main import main

    sys.exit(main())
