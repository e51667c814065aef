"""Scores of several labels a row against scikit-learn's and torch's."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sm_train.results.label_sets import binary_cross_entropy, label_set_scores, sigmoid

pytestmark = pytest.mark.slow

LABELS = ["a", "b c", "d"]
TABLES = st.integers(1, 12).flatmap(
    lambda rows: st.tuples(arrays(bool, (rows, 3)), arrays(bool, (rows, 3)))
)


@settings(deadline=None)  # the first call imports scikit-learn
@given(TABLES)
def test_averages_are_scikit_learn_s(tables: tuple[np.ndarray, np.ndarray]) -> None:
    from sklearn import metrics

    expected, predicted = tables
    scores = label_set_scores(expected, predicted, LABELS)
    for average in ("micro", "macro", "samples"):
        references = metrics.precision_recall_fscore_support(
            expected, predicted, average=average, zero_division=0
        )
        for name, value in zip(("precision", "recall", "f1"), references[:3], strict=True):
            assert scores[f"{name}_{average}"] == pytest.approx(value), (name, average)
    assert scores["f1"] == scores["f1_macro"]
    assert scores["subset_accuracy"] == pytest.approx(metrics.accuracy_score(expected, predicted))
    assert scores["hamming_loss"] == pytest.approx(metrics.hamming_loss(expected, predicted))
    of_labels = metrics.f1_score(expected, predicted, average=None, zero_division=0)
    assert [scores[f"f1[{label}]"] for label in LABELS] == pytest.approx(list(of_labels))
    assert [scores[f"support[{label}]"] for label in LABELS] == list(expected.sum(axis=0))


@settings(deadline=None)
@given(arrays(np.float32, (4, 3), elements=st.floats(-1000, 1000, width=32)), arrays(bool, (4, 3)))
def test_the_loss_is_torch_s(logits: np.ndarray, targets: np.ndarray) -> None:
    import torch

    values, wanted = torch.tensor(logits), torch.tensor(targets, dtype=torch.float32)
    loss = torch.nn.functional.binary_cross_entropy_with_logits(values, wanted)
    assert binary_cross_entropy(logits, targets) == pytest.approx(float(loss), rel=1e-5, abs=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = sigmoid(logits)
    assert scores == pytest.approx(torch.sigmoid(values.double()).numpy(), abs=1e-12)
