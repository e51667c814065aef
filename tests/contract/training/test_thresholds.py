"""Training, server and evaluation share no code, and decide alike by the same thresholds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sm_launch.evaluation.thresholds import read_thresholds
from sm_serve.artefact.adapter_head import Head
from sm_serve.artefact.thresholds import read_thresholds as read_limits
from sm_serve.engines.encoders.classification import activate, decided
from sm_train.results.thresholds import asked_thresholds

pytestmark = pytest.mark.slow

LABELS = ("a", "b", "c")
GIVEN = st.dictionaries(st.sampled_from(LABELS), st.floats(0.01, 0.32), min_size=1)
LOGITS = st.lists(st.floats(-5, 5), min_size=3, max_size=3)


@settings(deadline=None)
@given(GIVEN, LOGITS, st.booleans())
def test_all_decide_alike(asked: dict[str, float], logits: list[float], several: bool) -> None:
    trained = asked_thresholds(asked, LABELS, several=several)
    assert trained.values is not None
    scores = trained.scores(np.array([logits]))[0]
    rates = sorted(scores / trained.values)
    assume(rates[-1] > rates[-2] * (1 + 1e-9))
    assume(all(abs(rate - 1) > 1e-9 for rate in rates))
    chosen = trained.decide(np.array([logits]))[0]
    labels = (
        [label for label, given in zip(LABELS, chosen, strict=True) if given]
        if several
        else [LABELS[int(chosen)]]
    )
    told: Any = trained.told
    probabilities = activate(logits, "sigmoid" if several else "softmax")
    named = dict(zip(LABELS, probabilities, strict=True))
    # As job.yaml gives them, and as the artefact tells them.
    for value in (asked, told):
        read = read_thresholds(value, several=several)
        assert (read.given(named) if several else [read.best(named)]) == labels
    problem = "multi_label_classification" if several else None
    config = {
        "problem_type": problem,
        "task_specific_params": {"text-classification": {"threshold": told}},
    }
    head = Head(LABELS, problem, read_limits(config, LABELS))
    assert sorted(LABELS[at] for at in decided(logits, probabilities, head)) == labels
