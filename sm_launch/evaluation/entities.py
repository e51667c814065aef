"""Entities in a sequence of tags, as seqeval reads them: BIO, IOBES (BIOES) and BILOU.

Tags without such a prefix (parts of speech) are an entity a word, as training counts them.
"""

from __future__ import annotations

from collections.abc import Sequence

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


def is_plain(tags: Sequence[str]) -> bool:
    """Whether no tag has a prefix, so that each word is an entity of its own."""
    return not any(split_tag(tag)[0] for tag in tags if tag != OUTSIDE)
