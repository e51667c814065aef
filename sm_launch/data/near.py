"""Texts that are almost equal: MinHash signatures, compared only where a band of them agrees.

A signature keeps 16 bits of each of 64 minima, 128 bytes a row, and estimates the Jaccard
similarity of two texts' sets of 5-character shingles to about 0.05.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MINIMA = 64
_SHINGLE_CHARACTERS = 5
_MULTIPLIER = 0x9E3779B97F4A7C15
_PAIRS_AT_ONCE = 200_000


@cache
def _permutations() -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    import numpy as np

    chance = np.random.default_rng(0)  # fixed: signatures of all processes and runs compare
    factors = chance.integers(0, 2**63, MINIMA, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    return factors, chance.integers(0, 2**63, MINIMA, dtype=np.uint64)


def signature(folded: str) -> NDArray[np.uint16]:
    """The MinHash of a text in which case and white space are settled already."""
    import numpy as np

    padded = folded.ljust(_SHINGLE_CHARACTERS)
    points = np.frombuffer(padded.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    shingles = np.zeros(len(points) - _SHINGLE_CHARACTERS + 1, dtype=np.uint64)
    for at in range(_SHINGLE_CHARACTERS):
        shingles *= np.uint64(_MULTIPLIER)
        shingles += points[at : at + len(shingles)]
    shingles ^= shingles >> np.uint64(29)
    factors, offsets = _permutations()
    hashes = (shingles[:, None] * factors + offsets) >> np.uint64(32)
    minima: NDArray[np.uint16] = hashes.min(axis=0).astype(np.uint16)
    return minima


def mark(
    signatures: NDArray[np.uint16], labels: NDArray[np.int32], threshold: float
) -> NDArray[np.int64]:
    """For each row the earlier row of the same label that it nearly equals, or -1.

    Rows that are near to each other through others form one cluster, whose first row has -1.

    Args:
        signatures: one a row; of rows with several texts those of all, one behind the other.
        labels: label codes; "good" and "not good" are near, and must both stay.
        threshold: least estimated similarity, 0 to 1.
    """
    import numpy as np

    earlier = np.full(len(signatures), -1, dtype=np.int64)
    # Four minima of 16 bits are one number: two rows are compared where any of the 16 agrees.
    for band in np.ascontiguousarray(signatures).view(np.uint64).T:
        order = np.lexsort((band, labels))
        alike = (band[order[1:]] == band[order[:-1]]) & (labels[order[1:]] == labels[order[:-1]])
        left, right = order[:-1][alike], order[1:][alike]
        for start in range(0, len(left), _PAIRS_AT_ONCE):
            one, other = left[start : start + _PAIRS_AT_ONCE], right[start : start + _PAIRS_AT_ONCE]
            same = (signatures[one] == signatures[other]).reshape(len(one), -1, MINIMA)
            near = same.mean(axis=2).min(axis=1) >= threshold
            earlier[other[near]] = one[near]
    return earlier
