"""Trials' values stay in their ranges, follow the scaling and never repeat."""

from itertools import islice

import pytest

from sm_launch.sessions.process.jobs.search import grid, problem_with, random_search


def numeric(kind, low, high, scaling="Auto", name="x"):
    parameter = {"Name": name, "MinValue": low, "MaxValue": high, "ScalingType": scaling}
    return {f"{kind}ParameterRanges": [parameter]}


def categorical(**values):
    ranges = [{"Name": name, "Values": list(options)} for name, options in values.items()]
    return {"CategoricalParameterRanges": ranges}


def test_the_grid_is_every_combination_once():
    combinations = list(grid(categorical(a="12", b="xy")))
    assert combinations == [
        {"a": "1", "b": "x"},
        {"a": "1", "b": "y"},
        {"a": "2", "b": "x"},
        {"a": "2", "b": "y"},
    ]


def test_a_seed_makes_draws_repeatable():
    ranges = numeric("Continuous", "1e-5", "1e-3") | categorical(a="12")
    assert list(islice(random_search(ranges, 7), 5)) == list(islice(random_search(ranges, 7), 5))
    assert list(islice(random_search(ranges, 7), 5)) != list(islice(random_search(ranges, 8), 5))


def test_a_small_space_is_exhausted_without_repetition():
    combinations = list(random_search(numeric("Integer", "1", "5") | categorical(a="12"), 0))
    assert len(combinations) == 10
    assert {int(values["x"]) for values in combinations} == {1, 2, 3, 4, 5}


@pytest.mark.parametrize(
    ("scaling", "low_share"),
    [("Linear", 0.1), ("Logarithmic", 0.75), ("Auto", 0.75)],
)
def test_scaling_decides_where_draws_fall(scaling, low_share):
    ranges = numeric("Continuous", "0.0001", "1", scaling)
    values = [float(draw["x"]) for draw in islice(random_search(ranges, 1), 2000)]
    assert all(0.0001 <= value <= 1 for value in values)
    assert sum(value < 0.1 for value in values) / len(values) == pytest.approx(low_share, abs=0.03)


def test_reverse_logarithmic_crowds_near_one():
    ranges = numeric("Continuous", "0.9", "0.9999", "ReverseLogarithmic")
    values = [float(draw["x"]) for draw in islice(random_search(ranges, 1), 1000)]
    assert all(0.9 <= value <= 0.9999 for value in values)
    assert sum(value > 0.99 for value in values) / len(values) == pytest.approx(2 / 3, abs=0.05)


def test_a_narrow_range_is_linear_by_default():
    ranges = numeric("Continuous", "1", "2")
    values = [float(draw["x"]) for draw in islice(random_search(ranges, 1), 1000)]
    assert sum(values) / len(values) == pytest.approx(1.5, abs=0.03)


@pytest.mark.parametrize(
    ("ranges", "strategy", "message"),
    [
        ({}, "Random", "names no parameter"),
        (numeric("Integer", "1", "2"), "Grid", "takes categorical parameters only"),
        (numeric("Integer", "3", "2"), "Random", "MinValue 3 is greater than MaxValue 2"),
        (numeric("Integer", "a", "2"), "Random", "are no numbers"),
        (numeric("Continuous", "0", "2", "Logarithmic"), "Random", "greater than 0"),
        (numeric("Continuous", "0", "1", "ReverseLogarithmic"), "Random", "0 <= x < 1"),
    ],
)
def test_impossible_ranges_are_named(ranges, strategy, message):
    assert message in problem_with(ranges, strategy)


def test_good_ranges_have_no_problem():
    assert problem_with(categorical(a="1"), "Grid") is None
    assert problem_with(numeric("Continuous", "1e-6", "1e-3", "Logarithmic"), "Random") is None
