"""Entities in a sequence of tags, as seqeval reads them: BIO, IOBES (BIOES) and BILOU.

Tags without such a prefix (parts of speech) are an entity a word, as training counts them.
"""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from typing import Any

Span = tuple[str, int, int]
"""Entity type, first and last word."""
_PREFIXES = {"B": "B", "I": "I", "E": "E", "S": "S", "L": "E", "U": "S"}
"""BILOU's last and unit are BIOES's end and single."""
OUTSIDE = "O"


def split_tag(tag: str) -> tuple[str, str]:
    """Prefix (B, I, E, S; empty for a plain tag) and entity type of a tag that is not O."""
    prefix, dash, kind = tag.partition("-")
    if dash and prefix in _PREFIXES and kind:
        return _PREFIXES[prefix], kind
    return "", tag


def spans(tags: Sequence[str]) -> set[Span]:
    """The entities; an I or E that continues nothing begins one, as in CoNLL's own script."""
    found: list[Span] = []
    before = ("", OUTSIDE)
    for at, tag in enumerate(tags):
        prefix, kind = split_tag(tag) if tag != OUTSIDE else ("", OUTSIDE)
        if kind != OUTSIDE:
            continues = prefix in ("I", "E") and before[0] in ("B", "I") and before[1] == kind
            if continues:
                found[-1] = (kind, found[-1][1], at)
            else:
                found.append((kind, at, at))
        before = (prefix, kind)
    return set(found)


def answered_spans(answer: Sequence[Mapping[str, Any]], words: Sequence[str]) -> set[Span]:
    """The entities of an endpoint's answer to words that were sent with one space between them.

    Tokens (`entity`, from aggregation_strategy none): the tag of a word is that of the token that
    its first character is in, as in training. Groups (`entity_group`): the words that one touches.

    Raises:
        KeyError, TypeError: neither of the two.
    """
    begins, at = [], 0
    for word in words:
        begins.append(at)
        at += len(word) + 1
    if any("entity_group" in found for found in answer):
        return {
            (str(found["entity_group"]), touched[0], touched[-1])
            for found in answer
            if (touched := _touched(found, begins, words))
        }
    tags = [OUTSIDE] * len(words)
    for found in answer:
        start, end, tag = found["start"], found["end"], str(found["entity"])
        place = bisect.bisect_left(begins, start)
        # A token may hold the blank before its word, or begin within one: that one is no first.
        if place < len(begins) and start <= begins[place] < end:
            tags[place] = tag
    return spans(tags)


def _touched(found: Mapping[str, Any], begins: Sequence[int], words: Sequence[str]) -> list[int]:
    return [
        i
        for i, (begin, word) in enumerate(zip(begins, words, strict=True))
        if begin < found["end"] and found["start"] < begin + len(word)
    ]
