"""Drift: do captured requests still look like the training set, in length and in labels?

The measure is the population stability index over the training set's deciles (lengths) or over the
labels. Small samples differ by chance alone, so that the limit is never below what chance does.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

BINS = 10
# Fewer requests say nothing.
LEAST = 50
# Half a row is added to every bin: an empty one must not make the index infinite.
SMOOTHING = 0.5


@dataclass(frozen=True)
class Drift:
    """One comparison.

    Attributes:
        what: input length or label.
        index: population stability index; 0 is no difference.
        limit: from here on it counts as drift.
        training_rows: how many rows it compares with.
        captured_rows: how many requests were seen.
        training: bin to share of the training set.
        captured: bin to share of the requests.
    """

    what: str
    index: float
    limit: float
    training_rows: int
    captured_rows: int
    training: dict[str, float]
    captured: dict[str, float]

    @property
    def state(self) -> str:
        """ok, drift, or too few requests to tell."""
        if self.captured_rows < LEAST:
            return "too few"
        return "drift" if self.index > self.limit else "ok"

    def as_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return {**asdict(self), "state": self.state}


def compare_lengths(
    training: Sequence[int], captured: Sequence[int], threshold: float
) -> Drift | None:
    """Lengths against the training set's deciles; None where one side is empty."""
    if not training or not captured:
        return None
    edges = _edges(training)
    names = _bin_names(edges)

    def binned(lengths: Sequence[int]) -> Counter[str]:
        return Counter(names[bisect.bisect_left(edges, length)] for length in lengths)

    return _compare("input length", names, binned(training), binned(captured), threshold)


def compare_labels(
    training: Mapping[str, int], captured: Mapping[str, int], threshold: float
) -> Drift | None:
    """Predicted labels against those of the training set; None where one side is empty."""
    if not training or not captured:
        return None
    names = [*training, *(name for name in captured if name not in training)]
    return _compare("label", names, training, captured, threshold)


def _compare(
    what: str,
    names: Sequence[str],
    training: Mapping[str, int],
    captured: Mapping[str, int],
    threshold: float,
) -> Drift:
    before, after = _shares(names, training), _shares(names, captured)
    index = sum(
        (after[name] - before[name]) * math.log(after[name] / before[name]) for name in names
    )
    rows, seen = sum(training.values()), sum(captured.values())
    limit = max(threshold, _by_chance(len(names), rows, seen))
    return Drift(
        what,
        index,
        limit,
        rows,
        seen,
        {name: training.get(name, 0) / rows for name in names},
        {name: captured.get(name, 0) / seen for name in names},
    )


def _shares(names: Sequence[str], counts: Mapping[str, int]) -> dict[str, float]:
    total = sum(counts.values()) + SMOOTHING * len(names)
    return {name: (counts.get(name, 0) + SMOOTHING) / total for name in names}


def _by_chance(bins: int, rows: int, seen: int) -> float:
    """What the index of two samples of the same distribution exceeds in about 1 % of cases.

    It is close to a chi-square of bins - 1 degrees of freedom times (1/rows + 1/seen); the bound
    is Wilson and Hilferty's approximation.
    """
    degrees = max(bins - 1, 1)
    normal = 2.326
    spread = 2 / (9 * degrees)
    chi_square = degrees * (1 - spread + normal * math.sqrt(spread)) ** 3
    return float(chi_square * (1 / rows + 1 / seen))


def _edges(lengths: Sequence[int]) -> list[int]:
    ordered = sorted(lengths)
    cuts = {ordered[min(len(ordered) * i // BINS, len(ordered) - 1)] for i in range(1, BINS)}
    # The last bin must not be empty in the training set.
    return sorted(cut for cut in cuts if cut < ordered[-1])


def _bin_names(edges: Sequence[int]) -> list[str]:
    if not edges:
        return ["all"]
    between = [f"{low + 1} to {high}" for low, high in itertools.pairwise(edges)]
    return [f"up to {edges[0]}", *between, f"over {edges[-1]}"]


def count_labels(labels: Iterable[Any]) -> Counter[str]:
    """How often each label occurs; what is no label is left out."""
    return Counter(str(label) for label in labels if label is not None)
