"""Entities in a sequence of tags, as seqeval reads them: BIO, IOBES (BIOES) and BILOU.

Tags without such a prefix (parts of speech) are an entity a word, as training counts them.
"""

from __future__ import annotations

import math
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
    entities: list[Span] = []
    before = ("", OUTSIDE)
    for at, tag in enumerate(tags):
        prefix, kind = split_tag(tag) if tag != OUTSIDE else ("", OUTSIDE)
        if kind != OUTSIDE:
            continues = prefix in ("I", "E") and before[0] in ("B", "I") and before[1] == kind
            if continues:
                entities[-1] = (kind, entities[-1][1], at)
            else:
                entities.append((kind, at, at))
        before = (prefix, kind)
    return set(entities)


def answered_spans(
    answer: Sequence[Mapping[str, Any]], word_texts: Sequence[str], *, told_all: bool = False
) -> tuple[set[Span], list[int]]:
    """The entities of an endpoint's answer to words that were sent with one space between them,
    and which words the model read.

    Tokens (`entity`, from aggregation_strategy none): the tag of a word is that of its first token,
    as in training. Groups (`entity_group`): the words that one touches.

    Args:
        answer: tokens or groups.
        word_texts: what was sent.
        told_all: the answer holds all tokens, so that a word without one was not read.

    Raises:
        KeyError, TypeError: neither of the two.
    """
    every = list(range(len(word_texts)))
    begins, at = [], 0
    for word in word_texts:
        begins.append(at)
        at += len(word) + 1
    if any("entity_group" in entity for entity in answer):
        groups = {
            (str(entity["entity_group"]), touched[0], touched[-1])
            for entity in answer
            if (touched := _touched(entity, begins, word_texts))
        }
        return groups, every
    tags = _first_tags(answer, begins, word_texts, told_all)
    known = [at for at, tag in enumerate(tags) if tag is not None] if told_all else every
    named = spans([tags[word] or OUTSIDE for word in known])
    return {(kind, known[first], known[last]) for kind, first, last in named}, known


def _first_tags(
    answer: Sequence[Mapping[str, Any]],
    begins: Sequence[int],
    word_texts: Sequence[str],
    told_all: bool,
) -> list[str | None]:
    """The tag of each word's first token; None for a word of which it is not told."""
    tokens = sorted((entity["start"], entity["end"], str(entity["entity"])) for entity in answer)
    tags: list[str | None] = []
    at = 0
    for begin, word in zip(begins, word_texts, strict=True):
        while at < len(tokens) and tokens[at][1] <= begin:
            at += 1
        start, _, tag = tokens[at] if at < len(tokens) else (math.inf, 0, "")
        # A token may hold the blank before its word. Where only entities are told, one that begins
        # within the word is no first one; else the characters before it have no token.
        first = start < begin + len(word) if told_all else start <= begin
        tags.append(tag if first else None)
    return tags


def within(entities: set[Span], indices: Sequence[int]) -> set[Span]:
    """The entities as far as they lie in these words."""
    inside = ((kind, [w for w in indices if first <= w <= last]) for kind, first, last in entities)
    return {(kind, kept[0], kept[-1]) for kind, kept in inside if kept}


def _touched(
    entity: Mapping[str, Any], begins: Sequence[int], word_texts: Sequence[str]
) -> list[int]:
    return [
        i
        for i, (begin, word) in enumerate(zip(begins, word_texts, strict=True))
        if begin < entity["end"] and entity["start"] < begin + len(word)
    ]
