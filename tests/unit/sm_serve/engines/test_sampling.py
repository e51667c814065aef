"""Drawing a token never fails for a parameter that may be sent."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sm_serve.engines.generators.sampling import Choice, choose
from sm_serve.protocol import Sampling

SCORES = [[3.0, 1.0, 7.5, -4.0, 7.4], [float("-inf"), 8.0, float("-inf"), 30.0, -3e38]]


@pytest.mark.slow
@given(
    st.floats(0, 100) | st.sampled_from([1e-45, 1e-40, 1.1754943e-38, 1e-37, 1e-30, 1e-5]),
    st.sampled_from([0, 1, 3]),
    st.sampled_from([1e-6, 0.5, 1.0]),
)
def test_any_temperature_draws_what_has_a_chance(temperature, top_k, top_p):
    import torch

    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p, seed=1)
    tokens = choose(torch.tensor(SCORES), [Choice(sampling), Choice(sampling)]).argmax(-1).tolist()
    assert tokens[1] in (1, 3)
    if temperature < 1e-5:
        assert tokens == [2, 3]


@pytest.mark.parametrize("temperature", [0.0, 5e-324, 1e-45, 1.17e-38])
def test_below_the_least_normal_number_is_greedy(temperature):
    assert Sampling(temperature=temperature).greedy
    assert not Sampling(temperature=1.2e-38).greedy
