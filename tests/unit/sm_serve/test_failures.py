"""Every refusal crosses from the engine's process to the front as what it is."""

import inspect

import pytest

from sm_serve import errors
from sm_serve.engines.process import read_failure, write_failure

KINDS = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, errors.ServeError)
]


@pytest.mark.parametrize("kind", KINDS)
def test_a_refusal_comes_over_as_it_was(kind):
    made = kind(3, " is empty") if kind is errors.BadInput else kind("no", code="why")
    found = read_failure(*write_failure(made))
    assert (found.status, found.message, found.code) == (made.status, made.message, made.code)
