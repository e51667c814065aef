from __future__ import annotations

import random

import numpy as np
import pytest

from sm_launch.data.near import mark, signature

VOCABULARY = [f"word{n}" for n in range(500)]


def text(seed: int, length: int = 40) -> str:
    return " ".join(random.Random(seed).choices(VOCABULARY, k=length))


def pieces(value: str) -> set[str]:
    return {value[at : at + 5] for at in range(len(value) - 4)}


@pytest.mark.parametrize("changed", [1, 5, 15, 40])
def test_signatures_estimate_the_jaccard_similarity(changed: int) -> None:
    errors = []
    for seed in range(30):
        one = text(seed)
        other = " ".join(text(seed + 1000, changed).split() + one.split()[changed:])
        union, common = pieces(one) | pieces(other), pieces(one) & pieces(other)
        errors.append((signature(one) == signature(other)).mean() - len(common) / len(union))
    assert abs(np.mean(errors)) < 0.03
    assert np.std(errors) < 0.09


def test_the_first_of_a_cluster_stays_and_other_labels_do_too() -> None:
    base = text(1)
    texts = [base, text(2), f"{base}!", f"so {base}", f"{base}?", "", "ab"]
    labels = np.array([0, 0, 0, 0, 1, 0, 0], dtype=np.int32)
    earlier = mark(np.stack([signature(value) for value in texts]), labels, 0.8)
    assert (earlier >= 0).tolist() == [False, False, True, True, False, False, False]


@pytest.mark.slow
def test_near_duplicates_are_quarantined_whatever_the_workers(run, write) -> None:
    rows = [f"{text(n)},{'ab'[n % 2]}" for n in range(40)]
    rows += [f"{text(n)} indeed,{'ab'[n % 2]}" for n in range(10)]
    write("r.csv", "text,label\n" + "\n".join(rows))
    assert run(input="r.csv").report.rows_kept == 50
    done = run(input="r.csv", duplicates={"near": 0.8})
    assert done.report.rejected == {"near_duplicate": 10}
    assert [row["row"] for row in done.rejected] == list(range(41, 51))
    again = run(input="r.csv", duplicates={"near": 0.8}, workers=2)
    assert again.report.splits == done.report.splits


def test_training_rows_near_to_a_ready_test_are_leaks(run, write) -> None:
    write("train.csv", "text,label\n" + "".join(f"{text(n)},{'ab'[n % 2]}\n" for n in range(40)))
    write("test.csv", f"text,label\n{text(0)} indeed,a\n{text(0)} really,a\n")
    done = run(train="train.csv", test="test.csv", duplicates={"near": 0.8})
    assert len(done.rows("test")) == 2
    assert [(row["row"], row["reason"]) for row in done.rejected] == [(1, "leak")]
