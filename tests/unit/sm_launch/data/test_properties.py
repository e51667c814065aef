"""What holds for any rows, seed and shares."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sm_launch.data.dedupe import leaks
from sm_launch.data.split import NO_SPLIT, by_group, by_label, by_time
from sm_launch.data.steps import build
from sm_launch.job.data import DataConfig, Split

KEYS = st.lists(st.integers(0, 2**64 - 1), min_size=12, max_size=80)
SEEDS = st.integers(0, 2**63 - 1)
SHARES = st.sampled_from([(0.8, 0.1, 0.1), (0.6, 0.2, 0.2), (0.9, 0.1, 0.0), (0.5, 0.0, 0.5)])


def shared(keys: np.ndarray, splits: np.ndarray) -> set[int]:
    """Keys in more than one split."""
    parts = [set(keys[splits == part].tolist()) for part in range(3)]
    return parts[0] & parts[1] | parts[0] & parts[2] | parts[1] & parts[2]


@pytest.mark.slow
@settings(max_examples=60)
@given(KEYS, SEEDS, SHARES, st.randoms(use_true_random=False))
def test_label_split(numbers, seed, shares, chance) -> None:
    keys = np.array(numbers + numbers[:5], dtype=np.uint64)
    labels = np.zeros(len(keys), dtype=np.int32)
    split = Split(seed=seed)
    if len(set(numbers)) < 3:
        return
    splits = by_label(keys, labels, ["x"], shares, split)
    assert not shared(keys, splits)
    unique, first = np.unique(keys, return_index=True)
    counts = np.bincount(splits[first], minlength=3)
    for part in (1, 2):
        wanted = round(len(unique) * shares[part])
        assert counts[part] == (max(1, wanted) if shares[part] else 0)
    order = np.array(chance.sample(range(len(keys)), len(keys)))
    assert (by_label(keys[order], labels[order], ["x"], shares, split) == splits[order]).all()


@settings(max_examples=60)
@given(KEYS, SEEDS, SHARES)
def test_group_split(numbers, seed, shares) -> None:
    groups = np.array([number % 7 for number in numbers], dtype=np.uint64)
    if len(set(groups.tolist())) < 3:
        return
    labels = np.array([number % 2 for number in numbers], dtype=np.int32)
    splits = by_group(groups, labels, shares, seed)
    assert not shared(groups, splits)
    assert (splits == by_group(groups, labels, shares, seed)).all()
    assert set(splits.tolist()) <= {part for part in range(3) if shares[part]}


@settings(max_examples=60)
@given(KEYS, SHARES)
def test_time_split(numbers, shares) -> None:
    times = np.array([float(number % 1000) for number in numbers])
    splits = by_time(np.array(numbers, dtype=np.uint64), times, shares)
    ends = [(times[splits == part].min(), times[splits == part].max()) for part in set(splits)]
    assert all(ends[at][1] <= ends[at + 1][0] for at in range(len(ends) - 1))


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(-1, 2)), min_size=1, max_size=40))
def test_no_key_is_left_in_two_splits_once_leaks_go(rows) -> None:
    keys = np.array([key for key, _ in rows], dtype=np.uint64)
    splits = np.array([split for _, split in rows], dtype=np.int8)
    marked = leaks(keys, splits)
    assert not (marked & (splits == 2)).any()
    splits[marked] = NO_SPLIT
    assert not shared(keys, splits)


@pytest.mark.slow
@settings(max_examples=200)
@given(st.text(max_size=60))
def test_cleaning_a_text_never_fails_and_leaves_no_outer_or_double_space(text) -> None:
    cleaned = build(DataConfig(input="x.csv").effective_steps)(text)
    assert cleaned == " ".join(cleaned.split())
