"""Which split a row goes to: decided by its content and the seed, not by its place in the file.

A row keeps its split when other rows are added, removed or reordered, except for the few at the
borders of the fractions. The order is that of a hash of the text's key and the seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from sm_launch.data.chunks import short_list
from sm_launch.errors import UserInputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sm_launch.job.data import Balance, Split

SPLITS = ("train", "validation", "test")
TRAIN, VALIDATION, TEST = range(3)
NO_SPLIT = -1


def seeded_order(keys: NDArray[np.uint64], seed: int) -> NDArray[np.int64]:
    """A shuffled order of the rows that depends on their keys and the seed only (splitmix64)."""
    import numpy as np

    with np.errstate(over="ignore"):
        mixed = keys + np.uint64(seed) * np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(31)
    return np.lexsort((keys, mixed))


def by_label(
    keys: NDArray[np.uint64],
    labels: NDArray[np.int32],
    names: Sequence[str],
    shares: Sequence[float],
    split: Split,
) -> NDArray[np.int8]:
    """Give each label's texts to the splits in the wanted shares; equal texts go together.

    Args:
        keys: text keys.
        labels: label codes, an index into `names`.
        names: label names, for messages.
        shares: of train, validation and test.
        split: seed and whether to stratify.

    Raises:
        UserInputError: a label has too few different texts to be in every split.
    """
    import numpy as np

    unique, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    strata = labels[first] if split.stratify else np.zeros(len(unique), dtype=np.int32)
    assigned = np.full(len(unique), TRAIN, dtype=np.int8)
    order = seeded_order(unique, split.seed)
    if split.stratify:
        texts = np.bincount(strata, minlength=len(names)).tolist()
        _check_labels(dict(zip(names, texts, strict=False)), shares)
    else:
        check_rows(len(unique), shares)
    for code in np.unique(strata):
        rows = order[strata[order] == code]
        test, validation = (part_size(len(rows), shares[part]) for part in (TEST, VALIDATION))
        assigned[rows[:test]] = TEST
        assigned[rows[test : test + validation]] = VALIDATION
    return assigned[inverse]


def part_size(rows: int, share: float) -> int:
    """Rows of a split: at least one where it is wanted at all."""
    return max(1, round(rows * share)) if share > 0 else 0


def check_rows(rows: int, shares: Sequence[float]) -> None:
    """Raise UserInputError where the data has too few rows for the splits."""
    wanted = sum(share > 0 for share in shares)
    if rows < wanted:
        raise UserInputError(
            f"{rows} different rows cannot fill {wanted} splits",
            field="data.split",
            fix="give more rows, or set the fraction of a split to 0",
        )


def _check_labels(texts: Mapping[str, int], shares: Sequence[float]) -> None:
    """Refuse labels that cannot be in every split, all at once."""
    wanted = sum(share > 0 for share in shares)
    rare = {name: count for name, count in texts.items() if 0 < count < wanted}
    if not rare:
        return
    shown = short_list([f"{name} ({count})" for name, count in rare.items()])
    raise UserInputError(
        f"{len(rare)} label(s) have too few different rows to be stratified over {wanted} splits: "
        f"{shown}",
        field="data.columns.label",
        value=next(iter(rare)),
        fix="merge them into other labels with data.label_map, leave them out of data.labels, add "
        "rows, set the fraction of a split to 0, or set data.split.stratify: false",
    )


def by_time(
    keys: NDArray[np.uint64], times: NDArray[np.float64], shares: Sequence[float]
) -> NDArray[np.int8]:
    """The oldest rows train, the newest are the test: as the model will be used."""
    import numpy as np

    order = np.lexsort((keys, times))
    assigned = np.full(len(keys), TRAIN, dtype=np.int8)
    test, validation = (part_size(len(keys), shares[part]) for part in (TEST, VALIDATION))
    assigned[order[len(keys) - test :]] = TEST
    assigned[order[len(keys) - test - validation : len(keys) - test]] = VALIDATION
    return assigned


def by_group(
    groups: NDArray[np.uint64],
    labels: NDArray[np.int32],
    shares: Sequence[float],
    seed: int,
    members: NDArray[np.bool_] | None = None,
) -> NDArray[np.int8]:
    """Whole groups to splits, largest first, each to where its labels are missed most.

    Args:
        groups: group keys.
        labels: label codes.
        shares: of train, validation and test.
        seed: breaks ties between groups of equal size.
        members: which labels each code stands for, where a row may have several.

    Raises:
        UserInputError: there are fewer groups than splits.
    """
    import numpy as np

    unique, inverse = np.unique(groups, return_inverse=True)
    _check_groups(len(unique), shares)
    counts = np.zeros((len(unique), int(labels.max(initial=0)) + 1))
    np.add.at(counts, (inverse, labels), 1)
    if members is not None:
        counts = counts @ members[: counts.shape[1]]
    wanted = np.outer(shares, counts.sum(axis=0))
    scale = np.maximum(counts.sum(axis=0), 1)
    shuffled = seeded_order(unique, seed)
    by_size = shuffled[np.argsort(-counts[shuffled].sum(axis=1), kind="stable")]
    assigned = np.zeros(len(unique), dtype=np.int8)
    closed = np.asarray(shares) == 0
    for group in by_size:
        gain = ((wanted / scale) * (counts[group] / scale)).sum(axis=1)
        gain[closed] = -np.inf
        assigned[group] = gain.argmax()
        wanted[assigned[group]] -= counts[group]
    return assigned[inverse]


def _check_groups(groups: int, shares: Sequence[float]) -> None:
    wanted = sum(share > 0 for share in shares)
    if groups < wanted:
        raise UserInputError(
            f"{groups} group(s) cannot fill {wanted} splits",
            field="data.split.group",
            fix="choose a column with more values, or set the fraction of a split to 0",
        )


def surplus(
    keys: NDArray[np.uint64],
    labels: NDArray[np.int32],
    splits: NDArray[np.int8],
    balance: Balance,
    seed: int,
) -> NDArray[np.bool_]:
    """Mark the training rows of frequent labels that are too many.

    Which of a label's rows stay depends on their texts and the seed, not on their order.
    """
    import numpy as np

    marked = np.zeros(len(keys), dtype=np.bool_)
    train = np.flatnonzero(splits == TRAIN)
    counts = np.bincount(labels[train])
    most = balance.most_per_label
    if most is None:
        most = int(counts[counts > 0].min() * (balance.ratio or 1))
    for label in np.flatnonzero(counts > most):
        rows = train[labels[train] == label]
        marked[rows[seeded_order(keys[rows], seed)[most:]]] = True
    return marked
