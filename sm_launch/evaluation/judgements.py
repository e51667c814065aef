"""A judge's verdicts on disk as they come: asking again costs money, an interruption nothing."""

from __future__ import annotations

import hashlib
import json
import threading
from pathlib import Path
from typing import NamedTuple

from sm_launch import json_lines


class Verdict(NamedTuple):
    """What a judge said of one answer."""

    score: float
    reason: str


class Judgements:
    """The verdicts of an evaluation under way, each found by the request that asked for it.

    So that another judge, other criteria or another answer never meets an old verdict.

    Args:
        path: the file; it is there while the evaluation is under way. None keeps nothing.
        judge: where the requests go; what one server said is not asked of another.
    """

    def __init__(self, path: Path | None = None, judge: str = "") -> None:
        self._path = path
        self._judge = judge.encode()
        self._lock = threading.Lock()
        self._known = _read(path) if path is not None and path.is_file() else {}

    def find(self, request: bytes) -> Verdict | None:
        """What was said to this request before, if anything."""
        return self._known.get(self._key(request))

    def add(self, request: bytes, verdict: Verdict) -> None:
        """Keep a verdict; threads may do so at the same time."""
        key = self._key(request)
        with self._lock:
            self._known[key] = verdict
            if self._path is None:
                return
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json_lines.dumps({"request": key, **verdict._asdict()}))

    def _key(self, request: bytes) -> str:
        return hashlib.sha256(self._judge + b"\n" + request).hexdigest()

    def finish(self) -> None:
        """The evaluation is complete, and its predictions hold the grades."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)


def _read(path: Path) -> dict[str, Verdict]:
    """Every whole line; one that was cut off by an interruption is asked for again."""
    text = path.read_text(encoding="utf-8", errors="replace")
    if text and not text.endswith("\n"):
        with path.open("a", encoding="utf-8") as file:
            file.write("\n")
    judgements = {}
    for line in json_lines.split(text):
        try:
            entry = json.loads(line)
            judgements[str(entry["request"])] = Verdict(float(entry["score"]), str(entry["reason"]))
        except (ValueError, KeyError, TypeError):
            continue
    return judgements
