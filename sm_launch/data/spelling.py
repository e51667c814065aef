"""Labels that look like one label spelt in several ways."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from difflib import SequenceMatcher

_LONG = 5
"""Shorter words differ by one letter and mean another thing: cat and car."""
_ALIKE = 0.86
_MOST_LABELS = 300
"""Pairs are compared; so many labels make 45,000 of them."""
_RARE = 0.1


def near_spellings(labels: Mapping[str, int]) -> list[str]:
    """A sentence for each group of labels that are probably one.

    Args:
        labels: label to rows.
    """
    groups: dict[str, list[str]] = {}
    for label in labels:
        groups.setdefault(_skeleton(label), []).append(label)
    spellings = [sorted(group, key=lambda x: (-labels[x], x)) for group in groups.values()]
    spellings.sort(key=lambda group: (-labels[group[0]], group[0]))
    if len(spellings) <= _MOST_LABELS:
        spellings = _with_typos(spellings, labels)
    return [
        "labels that look like one: "
        + ", ".join(f"{label!r} ({labels[label]} rows)" for label in group)
        for group in spellings
        if len(group) > 1
    ]


def _skeleton(label: str) -> str:
    """A label without case, accents, punctuation and plural: what spellings have in common."""
    plain = unicodedata.normalize("NFKD", label.casefold())
    letters = "".join(c for c in plain if not unicodedata.combining(c))
    tokens = re.findall(r"[\w+#]+", letters.replace("_", " "))
    if not tokens or letters.strip("+-").replace(".", "").isdigit():
        return label  # signs and numbers differ in every character
    return "".join(_singular(word) for word in tokens)


def _singular(word: str) -> str:
    if len(word) > 3 and word.endswith("ies"):
        return word[:-3] + "y"
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def _with_typos(groups: list[list[str]], labels: Mapping[str, int]) -> list[list[str]]:
    """Rare labels join the frequent one that they differ from by a letter or two."""
    joined: list[list[str]] = []
    for group in groups:
        home = next((other for other in joined if _is_typo(group[0], other[0], labels)), None)
        if home is None:
            joined.append(list(group))
        else:
            home += group
    return joined


def _is_typo(rare: str, frequent: str, labels: Mapping[str, int]) -> bool:
    one, other = _skeleton(rare), _skeleton(frequent)
    if min(len(one), len(other)) < _LONG or labels[rare] > _RARE * labels[frequent]:
        return False
    if re.sub(r"\D", "", one) != re.sub(r"\D", "", other):
        return False  # class1 and class2
    if one.startswith(("un", "in", "non", "dis")) != other.startswith(("un", "in", "non", "dis")):
        return False  # the opposite
    return SequenceMatcher(None, one, other).ratio() >= _ALIKE
