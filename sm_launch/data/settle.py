"""Between the passes: which spelling a label keeps, and which words of the column mean missing.

Both need the whole column: `NA` is a class among `EU` and `US`, and a gap among reviews.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median

from sm_launch.data.labels import fold
from sm_launch.job.data import DataConfig

_CLASS_SHARE = 0.05
"""A word that so many of the labelled rows have is a class, not a gap."""
_TECHNICAL = frozenset(
    {"nan", "null", "<na>", "#n/a", "#n/a n/a", "#value!", "#ref!", "#div/0!", "#name?", "#num!"}
)
"""What programs write for no value; no person calls a class so without declaring it."""


@dataclass(frozen=True)
class Settled:
    """What becomes of each spelling in the label column."""

    final: dict[str, str | None]
    """Spelling to label; None: it means missing, and nothing fills it."""
    gaps: dict[str, int] = field(default_factory=dict)
    """Words that mean missing here, with their rows."""
    merged: dict[str, dict[str, int]] = field(default_factory=dict)
    """Label to the number of rows of each of its other spellings."""
    classes: dict[str, int] = field(default_factory=dict)
    """Words for a missing value that are classes here, with their rows."""

    @property
    def missing(self) -> list[str]:
        """Spellings whose rows have no label."""
        return [spelling for spelling, label in self.final.items() if label is None]


def settle(counts: Mapping[str, int], config: DataConfig, *, declared: bool) -> Settled:
    """Decide from the number of rows of each spelling.

    Args:
        counts: spelling to rows.
        config: says which words mean missing, and whether case matters.
        declared: whether the configuration names the labels: then they are spelt as it says.
    """
    if declared:
        return Settled({spelling: spelling for spelling in counts})
    groups: dict[str, Counter[str]] = {}
    for spelling, rows in counts.items():
        key = fold(spelling) if config.normalise_labels else spelling
        groups.setdefault(key, Counter())[spelling] += rows
    missing = frozenset(config.missing.values)
    chosen = "values" in config.missing.model_fields_set
    best = {key: _most_frequent(group) for key, group in groups.items()}
    doubtful = {key for key in groups if key.casefold() in missing}
    others = {best[key]: groups[key].total() for key in groups.keys() - doubtful}
    total = sum(counts.values())
    gaps = {
        key
        for key in doubtful
        if chosen or not _is_class(best[key], groups[key].total(), others, total)
    }
    kept = groups.keys() - gaps
    return Settled(
        final={
            spelling: config.missing.label if key in gaps else best[key]
            for key, group in groups.items()
            for spelling in group
        },
        gaps={best[key]: groups[key].total() for key in sorted(gaps)},
        merged={
            best[key]: {s: n for s, n in groups[key].items() if s != best[key]}
            for key in sorted(kept)
            if len(groups[key]) > 1
        },
        classes={best[key]: groups[key].total() for key in sorted(doubtful - gaps)},
    )


def _most_frequent(group: Counter[str]) -> str:
    return min(group, key=lambda spelling: (-group[spelling], spelling))


def _is_class(spelling: str, rows: int, others: Mapping[str, int], total: int) -> bool:
    """Whether a word that often means missing is a class among these other labels."""
    if spelling.casefold() in _TECHNICAL or not others:
        return False
    if rows >= _CLASS_SHARE * total or rows >= median(others.values()) / 2:
        return True
    return _form(spelling) is not None and {_form(label) for label in others} == {_form(spelling)}


def _form(label: str) -> str | None:
    """`code` (US, EU, NA) or `sign` (+, -); None for any other word."""
    if label.isascii() and label.isalpha() and label.isupper() and len(label) <= 3:
        return "code"
    return "sign" if len(label) == 1 and not label.isalnum() else None
