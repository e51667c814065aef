"""No checkpoint and no model of weights that no model has."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from sm_train.errors import UserError
from sm_train.loop.callbacks import check_weights

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("weight", [math.nan, math.inf, -math.inf, 1e29, -1e29])
def test_weights_of_a_step_too_far_are_refused(weight: float) -> None:
    """A step of 1e30 leaves numbers: finite ones, whose products are none."""
    model = torch.nn.Linear(2, 2)
    state, args = SimpleNamespace(global_step=2), SimpleNamespace(learning_rate=1e30)
    check_weights(model, args, state)
    with torch.no_grad():
        model.weight[0, 0] = weight
    with pytest.raises(UserError, match="diverged by step 2"):
        check_weights(model, args, state)
