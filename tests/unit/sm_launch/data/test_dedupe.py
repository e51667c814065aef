from __future__ import annotations

import numpy as np
import pytest

from sm_launch.data.dedupe import CONFLICT, DUPLICATE, KEPT, judge, leaks
from sm_launch.job.data import Duplicates

K, D, C = KEPT, DUPLICATE, CONFLICT


@pytest.mark.parametrize(
    ("exact", "conflicting", "labels", "verdicts"),
    [
        ("drop", "majority", [0, 0, 0], [K, D, D]),
        ("keep", "majority", [0, 0, 0], [K, K, K]),
        ("drop", "majority", [1, 0, 0], [C, K, D]),
        ("keep", "majority", [1, 0, 0], [C, K, K]),
        ("drop", "majority", [0, 1, 2], [C, C, C]),
        ("drop", "drop", [0, 0, 1], [C, C, C]),
        ("drop", "first", [1, 0, 0], [K, C, C]),
        ("drop", "first", [1, 0, 1], [K, C, D]),
    ],
)
def test_policies(exact: str, conflicting: str, labels: list[int], verdicts: list[int]) -> None:
    policy = Duplicates.model_validate({"exact": exact, "conflicting": conflicting})
    # The three equal rows stand between others, of which none may be touched.
    keys = np.array([9, 5, 1, 5, 2, 5, 7], dtype=np.uint64)
    all_labels = np.array([0, labels[0], 1, labels[1], 0, labels[2], 1], dtype=np.int32)
    judged = judge(keys, all_labels, policy).tolist()
    assert [judged[1], judged[3], judged[5]] == verdicts
    assert [judged[0], judged[2], judged[4], judged[6]] == [K] * 4


def test_the_stricter_split_keeps_the_row() -> None:
    keys = np.array([1, 1, 1, 2, 2, 3], dtype=np.uint64)
    splits = np.array([0, 1, 2, 0, 1, 0], dtype=np.int8)
    assert leaks(keys, splits).tolist() == [True, True, False, True, False, False]
