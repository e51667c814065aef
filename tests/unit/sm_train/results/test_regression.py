"""Scores of numbers against scikit-learn's and scipy's."""

from __future__ import annotations

import math
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sm_train.results.regression import regression_scores

pytestmark = pytest.mark.slow


@settings(deadline=None)  # the first call imports scikit-learn
@given(st.lists(st.tuples(st.integers(0, 5), st.floats(-1, 6)), min_size=2, max_size=30))
def test_scores_are_the_libraries(pairs: list[tuple[int, float]]) -> None:
    from scipy.stats import spearmanr
    from sklearn.metrics import cohen_kappa_score, r2_score

    expected, answers = [gold for gold, _ in pairs], [answer for _, answer in pairs]
    scores = regression_scores(expected, answers)
    assert scores["r2"] == pytest.approx(r2_score(expected, answers))
    grades = [min(max(round(a), min(expected)), max(expected)) for a in answers]
    with warnings.catch_warnings():  # it warns where both sides are one grade
        warnings.simplefilter("ignore")
        kappa = cohen_kappa_score(expected, grades, weights="quadratic", labels=range(6))
    assert scores["quadratic_weighted_kappa"] == pytest.approx(0 if math.isnan(kappa) else kappa)
    if len(set(expected)) > 1 and len(set(answers)) > 1:
        assert scores["spearman"] == pytest.approx(spearmanr(expected, answers)[0], abs=1e-9)


def test_a_scale_of_fractions_or_of_many_numbers_has_no_kappa() -> None:
    assert "quadratic_weighted_kappa" not in regression_scores([0.5, 1, 2], [1, 1, 2])
    assert "quadratic_weighted_kappa" not in regression_scores([0, 100, 2], [1, 1, 2])
