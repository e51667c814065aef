"""SHA-256 of files and folders by their content."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

# Of a file that is streamed from S3, only both ends are read: it comes whole when it is trained on.
_END_BYTES = 1 << 20


def folder_digest(folder: Path, pattern: str = "*", *, streamed: bool = False) -> str:
    """Of the names and contents of all files; large ones are read side by side."""
    files = sorted(path for path in folder.rglob(pattern) if path.is_file())
    with ThreadPoolExecutor(min(8, len(os.sched_getaffinity(0)) + 1)) as pool:
        contents = list(pool.map(partial(file_digest, streamed=streamed), files))
    whole = hashlib.sha256()
    for path, content in zip(files, contents, strict=True):
        whole.update(
            f"{path.relative_to(folder).as_posix()}\0{content}\n".encode("utf-8", "replace")
        )
    return f"sha256:{whole.hexdigest()}"


def file_digest(path: Path, *, streamed: bool = False) -> str:
    """Of the bytes of a file; of one that is streamed, of its size and both its ends."""
    with path.open("rb") as file:
        if not streamed:
            return hashlib.file_digest(file, "sha256").hexdigest()
        size = file.seek(0, os.SEEK_END)
        ends = hashlib.sha256(str(size).encode())
        for start in (0, max(0, size - _END_BYTES)):
            file.seek(start)
            ends.update(file.read(_END_BYTES))
        return ends.hexdigest()
