"""Errors that cross from one process to another."""

import pytest

from sm_serve import errors
from sm_serve.errors import BadInput, ServeError, read_failure, write_failure

KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, ServeError)
]


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_comes_back_with_its_status_message_and_code(kind):
    error = BadInput(3, " is bad") if kind is BadInput else kind("why", code="mine")
    again = read_failure(*write_failure(error))
    assert isinstance(error, type(again))
    assert (again.status, again.body()) == (error.status, error.body())
