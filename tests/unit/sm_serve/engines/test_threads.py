"""How many threads a model on CPU gets: by how long its forward pass takes with each number."""

import time

import pytest

from sm_serve.engines.loading import choose_threads

pytestmark = pytest.mark.slow  # imports torch


@pytest.fixture
def torch():
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield torch
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("seconds", "chosen"),
    [
        pytest.param({1: 0.004, 2: 0.005}, 1, id="small: threads only get in each other's way"),
        pytest.param({1: 0.020, 2: 0.010}, 2, id="twice as fast with two"),
        pytest.param({1: 0.0, 2: 0.060}, 2, id="large: untried"),
    ],
)
def test_threads_are_used_where_they_pay(torch, seconds, chosen):
    choose_threads(lambda input_ids: time.sleep(seconds[torch.get_num_threads()]))
    assert torch.get_num_threads() == chosen


def test_a_model_that_wants_other_inputs_keeps_its_threads(torch):
    def model(input_ids):
        raise ValueError("pixel_values is missing")

    choose_threads(model)
    assert torch.get_num_threads() == 2
