"""Read a growing log file a piece at a time."""

from __future__ import annotations

from pathlib import Path


def read_lines(path: Path, cursor: object) -> tuple[list[str], int]:
    """The whole lines behind a position.

    Args:
        path: the log; it may not exist yet.
        cursor: what the last call returned, or None to begin at the start.

    Returns:
        The new lines without line ends, and the cursor of the next call. A last line that is not
        ended yet comes with the next call.
    """
    start = cursor if isinstance(cursor, int) else 0
    if not path.is_file():
        return [], start
    with path.open("rb") as log:
        log.seek(start)
        content = log.read()
    end = content.rfind(b"\n") + 1
    # A progress bar's carriage returns would otherwise make one endless line.
    text = content[:end].decode("utf-8", errors="replace").replace("\r", "\n")
    return text.split("\n")[:-1], start + end
