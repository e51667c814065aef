from __future__ import annotations

import numpy as np
import pytest

from sm_launch.data.split import by_group, by_label, by_time
from sm_launch.errors import UserInputError
from sm_launch.job.data import Split

SHARES = (0.8, 0.1, 0.1)
KEYS = np.random.default_rng(0).integers(0, 2**63, 1000).astype(np.uint64)
LABELS = (np.arange(1000) % 10 < 3).astype(np.int32)
NAMES = ["common", "rare"]


def test_every_label_has_the_wanted_shares() -> None:
    splits = by_label(KEYS, LABELS, NAMES, SHARES, Split())
    for label, rows in ((0, 700), (1, 300)):
        assert np.bincount(splits[label == LABELS]).tolist() == [
            rows * 8 // 10,
            rows // 10,
            rows // 10,
        ]


def test_same_seed_same_split_in_any_order_of_the_rows() -> None:
    order = np.random.default_rng(1).permutation(1000)
    splits = by_label(KEYS, LABELS, NAMES, SHARES, Split())
    again = by_label(KEYS[order], LABELS[order], NAMES, SHARES, Split())
    assert (again == splits[order]).all()
    other = by_label(KEYS, LABELS, NAMES, SHARES, Split(seed=43))
    assert (other != splits).any()


def test_equal_texts_stay_together() -> None:
    keys = np.repeat(KEYS[:100], 10)
    splits = by_label(keys, np.repeat(LABELS[:100], 10), NAMES, SHARES, Split())
    assert all(len(set(splits[keys == key])) == 1 for key in KEYS[:100])


def test_labels_too_rare_are_named_all_at_once() -> None:
    labels = np.zeros(1000, dtype=np.int32)
    labels[:2], labels[2] = 1, 2
    names = [*NAMES, "rarest"]
    with pytest.raises(UserInputError, match=r"2 label.*: rare \(2\), rarest \(1\)") as caught:
        by_label(KEYS, labels, names, SHARES, Split())
    assert caught.value.field == "data.columns.label"
    labels[2] = 0
    by_label(KEYS, labels, NAMES, SHARES, Split(stratify=False))


def test_small_splits_are_never_empty() -> None:
    splits = by_label(KEYS[:6], np.repeat([0, 1], 3).astype(np.int32), NAMES, SHARES, Split())
    assert np.bincount(splits).tolist() == [2, 2, 2]


def test_groups_stay_whole_and_labels_stay_balanced() -> None:
    groups = KEYS[np.arange(1000) // 10]
    splits = by_group(groups, LABELS, SHARES, 42)
    assert all(len(set(splits[groups == group])) == 1 for group in KEYS[:100])
    assert np.abs(np.bincount(splits) / 1000 - SHARES).max() < 0.03
    for part in range(3):
        assert abs(LABELS[splits == part].mean() - 0.3) < 0.05


def test_too_few_groups() -> None:
    with pytest.raises(UserInputError, match=r"2 group.*3 splits"):
        by_group(KEYS[np.arange(10) // 5], LABELS[:10], SHARES, 42)


def test_time_split_keeps_the_newest_for_the_test() -> None:
    times = np.random.default_rng(2).permutation(1000).astype(float)
    splits = by_time(KEYS, times, SHARES)
    assert times[splits == 0].max() < times[splits == 1].min()
    assert times[splits == 1].max() < times[splits == 2].min()
    assert np.bincount(splits).tolist() == [800, 100, 100]
