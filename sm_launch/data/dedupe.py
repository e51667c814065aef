"""Equal texts: which of them stay. Works on 64-bit keys, so 100 million rows fit in memory."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sm_launch.job.data import Duplicates

KEPT, DUPLICATE, CONFLICT, LEAK, NEAR, SURPLUS, MISSING = range(7)
VERDICTS = {
    DUPLICATE: ("duplicate", "equal to an earlier row but for case and white space"),
    CONFLICT: ("conflicting_labels", "equal texts have different labels, and this one lost"),
    LEAK: ("leak", "the same text or group is in an evaluation split"),
    NEAR: ("near_duplicate", "nearly equal to an earlier row of the same label"),
    MISSING: ("missing_label", "the label is a word that means missing (data.missing.values)"),
    SURPLUS: ("surplus", "the training split has enough rows of this label (data.balance)"),
}


def judge(
    keys: NDArray[np.uint64], labels: NDArray[np.int32], policy: Duplicates
) -> NDArray[np.int8]:
    """Say for each row whether it stays.

    Args:
        keys: one a row; equal texts have equal keys.
        labels: label codes.
        policy: what to do about equal rows.

    Returns:
        KEPT, DUPLICATE or CONFLICT for each row.
    """
    import numpy as np

    verdicts = np.zeros(len(keys), dtype=np.int8)
    order = np.argsort(keys, kind="stable")
    sorted_keys, sorted_labels = keys[order], labels[order]
    repeats = np.concatenate([[False], sorted_keys[1:] == sorted_keys[:-1]])
    differs = repeats & np.concatenate([[False], sorted_labels[1:] != sorted_labels[:-1]])
    if policy.exact == "drop":
        verdicts[order[repeats]] = DUPLICATE
    starts = np.flatnonzero(~repeats)
    ends = np.append(starts[1:], len(keys))
    of_group = np.searchsorted(starts, np.flatnonzero(differs), side="right") - 1
    for group in np.unique(of_group):
        rows = order[starts[group] : ends[group]]
        _settle(rows, labels, verdicts, policy)
    return verdicts


def _settle(
    rows: NDArray[np.int64],
    labels: NDArray[np.int32],
    verdicts: NDArray[np.int8],
    policy: Duplicates,
) -> None:
    """Decide among equal texts that bear different labels."""
    winner = _winner(labels[rows].tolist(), policy.conflicting)
    agrees = labels[rows] == winner if winner is not None else labels[rows] != labels[rows]
    verdicts[rows[~agrees]] = CONFLICT
    stay = rows[agrees]
    verdicts[stay] = KEPT
    if policy.exact == "drop":
        verdicts[stay[1:]] = DUPLICATE


def _winner(labels: list[int], policy: str) -> int | None:
    if policy == "first":
        return labels[0]
    if policy == "majority":
        (first, most), (_, next_most) = Counter(labels).most_common(2)
        return first if most > next_most else None
    return None


def leaks(keys: NDArray[np.uint64], splits: NDArray[np.int8]) -> NDArray[np.bool_]:
    """Mark rows that also stand in a split that is judged more strictly.

    A training row equal to one of validation or test is a leak, and a validation row equal to one
    of test: the test split itself is never changed.

    Args:
        keys: text keys or group keys.
        splits: 0 train, 1 validation, 2 test; negative: not in any.
    """
    import numpy as np

    test, validation = keys[splits == 2], keys[splits == 1]
    in_test = np.isin(keys, test) & ((splits == 0) | (splits == 1))
    marked: NDArray[np.bool_] = in_test | (np.isin(keys, validation) & (splits == 0))
    return marked
