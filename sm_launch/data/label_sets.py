"""The split of rows that may have several labels: iterative stratification.

Sechidis, Tsoumakas and Vlahavas (2011): the rarest label is dealt out first, each of its rows to a
split that misses it, and of these to where the row's labels together are missed most; then the next
rarest among the rows that are left. Rows without a label count as a label of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sm_launch.data.split import TEST, TRAIN, VALIDATION, check_rows, part_size, seeded_order

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def with_none(members: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The table of which labels a code stands for, with a column for those that have none."""
    import numpy as np

    return np.hstack([members, ~members.any(axis=1, keepdims=True)])


def by_labels(
    keys: NDArray[np.uint64],
    labels: NDArray[np.int32],
    members: NDArray[np.bool_],
    shares: Sequence[float],
    seed: int,
) -> NDArray[np.int8]:
    """Give each label's texts to the splits in about the wanted shares; equal texts go together.

    A label of fewer texts than there are splits is for training alone, and every label has at
    least one text there.

    Args:
        keys: text keys.
        labels: codes of label sets.
        members: which labels each code stands for.
        shares: of train, validation and test.
        seed: of the order in which rows are dealt out.

    Raises:
        UserInputError: there are fewer texts than splits.
    """
    import numpy as np

    unique, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    check_rows(len(unique), shares)
    order = seeded_order(unique, seed)
    table = with_none(members)[labels[first]][order]
    dealt = _deal(table, shares)
    assigned = np.empty(len(unique), dtype=np.int8)
    assigned[order] = dealt
    return assigned[inverse]


def _deal(table: NDArray[np.bool_], shares: Sequence[float]) -> NDArray[np.int8]:
    """A split for each row of a table of rows by labels, in the order of the rows."""
    import numpy as np

    counts = table.sum(axis=0)
    wanted = np.array([_wanted(int(count), shares) for count in counts], dtype=float).T
    missed, rows_missed = wanted.copy(), np.array(_wanted(len(table), shares), dtype=float)
    dealt = np.full(len(table), -1, dtype=np.int8)
    left = counts.astype(float)
    while (left > 0).any():
        label = int(np.where(left > 0, left, np.inf).argmin())
        for row in np.flatnonzero(table[:, label] & (dealt < 0)):
            own = table[row]
            gain = (missed[:, own] / np.maximum(wanted[:, own], 1)).sum(axis=1)
            gain[(wanted[:, own] == 0).any(axis=1)] = -np.inf
            missing = missed[:, label] > 0
            if (missing & (gain > -np.inf)).any():
                gain[~missing] = -np.inf
            best = np.flatnonzero(gain == gain.max())
            part = best[rows_missed[best].argmax()]
            dealt[row] = part
            missed[part, own] -= 1
            rows_missed[part] -= 1
            left[own] -= 1
    for label in range(table.shape[1]):  # a label that others took along must be learnt, too
        rows = np.flatnonzero(table[:, label])
        if len(rows) and not (dealt[rows] == TRAIN).any():
            dealt[rows[0]] = TRAIN
    return dealt


def _wanted(rows: int, shares: Sequence[float]) -> tuple[int, int, int]:
    """How many of a label's rows each split should get: one at least, where there are enough."""
    if rows < sum(share > 0 for share in shares):
        return rows, 0, 0
    validation, test = (part_size(rows, shares[part]) for part in (VALIDATION, TEST))
    return rows - validation - test, validation, test
