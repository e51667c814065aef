"""From tokens to text, piece by piece: incremental decoding and stop strings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

REPLACEMENT = "\ufffd"


class IncrementalDecoder:
    """Decodes a growing token list so that the pieces join to the text of the whole.

    A token may end inside a character, and may decode differently alone than after its
    predecessor (leading spaces), so a small window of past tokens is decoded with the new ones.

    Args:
        kept: texts of special tokens that are a part of the text; all others are left out.
    """

    def __init__(self, tokenizer: Any, kept: Mapping[int, str] | None = None) -> None:
        self._tokenizer = tokenizer
        self._kept = kept or {}
        self._ids: list[int] = []
        self._start = 0
        self._read = 0

    def push(self, tokens: Sequence[int], *, last: bool = False) -> str:
        """The text that the new tokens complete; with `last` also an unfinished character."""
        self._ids.extend(tokens)
        known = self._decode(self._ids[self._start : self._read])
        text = self._decode(self._ids[self._start :])
        if len(text) <= len(known) or (text.endswith(REPLACEMENT) and not last):
            return ""
        self._start, self._read = self._read, len(self._ids)
        return text[len(known) :]

    def _decode(self, ids: list[int]) -> str:
        parts = []
        for kept, run in groupby(ids, self._kept.__contains__):
            if kept:
                parts += [self._kept[token] for token in run]
            else:
                parts.append(str(self._tokenizer.decode(list(run), skip_special_tokens=True)))
        return "".join(parts)


class StopMatcher:
    """Cuts text at the first stop string, holding back what may turn out to be its beginning."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.matched = False

    def push(self, text: str, *, last: bool = False) -> str:
        """The text that is safe to send. After `matched` turns true nothing follows."""
        if not self._stops or self.matched:
            return "" if self.matched else text
        text = self._held + text
        places = [(text.find(stop), len(stop)) for stop in self._stops]
        matches = [(place + size, place) for place, size in places if place >= 0]
        if matches:
            self.matched = True
            self._held = ""
            return text[: min(matches)[1]]  # of stops that overlap, the one complete first
        keep = 0 if last else self._possible_prefix(text)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def _possible_prefix(self, text: str) -> int:
        """Length of the longest end of `text` with which some stop string begins."""
        longest = min(len(text), max(len(stop) for stop in self._stops) - 1)
        for size in range(longest, 0, -1):
            end = text[-size:]
            if any(stop.startswith(end) for stop in self._stops):
                return size
        return 0
