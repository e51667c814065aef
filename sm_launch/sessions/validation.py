"""Requests are checked against botocore's own service model, offline.

botocore checks types, required members and unknown names before it sends a request. The service
checks the rest (patterns, enumerations, lengths) and answers with a ValidationException; both are
done here, so that a request which passes has the shape that SageMaker takes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from botocore.model import ListShape, MapShape, Shape, StructureShape
from botocore.validate import ParamValidator

from sm_launch.aws.service_model import service_model
from sm_launch.sessions.errors import RequestError, ServiceError

# Locations: `file://` is legal here where SageMaker wants `s3://`.
_LOCATION_PATTERNS = ("(https|s3)://", "(s3|https)://", "s3://")
# The instance types of SageMaker's own local mode.
_LOCAL_INSTANCE_TYPES = frozenset({"local", "local_gpu"})


@dataclass(frozen=True)
class Broken:
    """A value that a service does not take, with its dotted path and why."""

    path: str
    value: Any
    problem: str

    @property
    def limit(self) -> str:
        """`at most 50`, or `at least 1`; empty where it is no number."""
        match = re.search(r"(less|greater) than or equal to (\S+)$", self.problem)
        return f"give at {'most' if match[1] == 'less' else 'least'} {match[2]}" if match else ""

    def as_service_says(self) -> str:
        """In the service's own words, in which the first entry of a list is number 1."""
        parts = [
            f"{int(part) + 1}.member" if part.isdigit() else part[0].lower() + part[1:]
            for part in self.path.split(".")
        ]
        where = ".".join(parts)
        return f"Value {self.value!r} at {where!r} failed to satisfy constraint: {self.problem}"


class RequestValidator:
    """Checks requests of one service.

    Args:
        service: botocore's name of it, such as "sagemaker".
        enums: False lets values pass that the installed model does not know: AWS may be newer.
    """

    def __init__(self, service: str, *, enums: bool = True) -> None:
        self._model = service_model(service)
        self._enums = enums

    def check(self, operation: str, request: dict[str, Any]) -> None:
        """Raise unless `request` is one that `operation` takes.

        Raises:
            RequestError: a wrong type, an unknown or a missing member.
            ServiceError: a value outside the service's limits.
        """
        self.check_shape(operation, request)
        broken = [each.as_service_says() for each in self.broken(operation, request)]
        if broken:
            count = f"{len(broken)} validation error{'s' if len(broken) > 1 else ''} detected: "
            raise ServiceError(count + "; ".join(broken), operation)

    def check_shape(self, operation: str, request: dict[str, Any]) -> None:
        """Raise RequestError for a wrong type, an unknown, missing or empty member."""
        report = ParamValidator().validate(request, self._input(operation))
        if report.has_errors():
            raise RequestError(report.generate_report())

    def _input(self, operation: str) -> Shape:
        shape = self._model.operation_model(operation).input_shape
        assert shape is not None, "every operation used here takes members"
        return shape

    def broken(self, operation: str, request: dict[str, Any]) -> list[Broken]:
        """The values of a request of the right shape that are outside the service's limits."""
        all_of_them = _broken_constraints(self._input(operation), request, "")
        return [each for each in all_of_them if self._enums or "enum value set" not in each.problem]

    def values(self, structure: str, member: str) -> list[str]:
        """The values that a member of a structure may have, as the installed model knows them."""
        shape = self._model.shape_for(structure)
        assert isinstance(shape, StructureShape)
        return list(shape.members[member].metadata.get("enum", []))

    def header_names(self, operation: str) -> tuple[dict[str, str], dict[str, str]]:
        """Member name to HTTP header, of the operation's input and of its output."""
        model = self._model.operation_model(operation)
        return _headers(model.input_shape), _headers(model.output_shape)


def _headers(shape: Any) -> dict[str, str]:
    return {
        name: member.serialization["name"]
        for name, member in shape.members.items()
        if member.serialization.get("location") == "header"
    }


def _broken_constraints(shape: Shape, value: Any, where: str) -> Iterator[Broken]:
    if isinstance(shape, StructureShape):
        for name, member in value.items():
            yield from _broken_constraints(shape.members[name], member, _below(where, name))
        return
    if isinstance(shape, ListShape):
        for index, member in enumerate(value):
            yield from _broken_constraints(shape.member, member, f"{where}.{index}")
    elif isinstance(shape, MapShape):
        for key, member in value.items():
            yield from _broken_constraints(shape.key, key, f"{where} key")
            yield from _broken_constraints(shape.value, member, f"{where}.{key}")
    problem = _problem(shape, value)
    if problem:
        yield Broken(where, value, problem)


def _below(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _problem(shape: Shape, value: Any) -> str | None:
    limits = shape.metadata
    size = len(value) if isinstance(value, str | bytes | list | dict) else value
    unit = "value" if size is value else "length"
    if isinstance(size, int | float) and "max" in limits and size > limits["max"]:
        return f"Member must have {unit} less than or equal to {limits['max']}"
    if isinstance(size, int | float) and "min" in limits and size < limits["min"]:
        return f"Member must have {unit} greater than or equal to {limits['min']}"
    if not isinstance(value, str):
        return None
    choices = limits.get("enum")
    if choices and value not in choices and value not in _LOCAL_INSTANCE_TYPES:
        near = f" (for example {', '.join(choices[:5])}, …)" if len(choices) > 8 else f" {choices}"
        return f"Member must satisfy enum value set{near}"
    pattern = limits.get("pattern")
    if pattern and not _matches(pattern, value):
        return f"Member must satisfy regular expression pattern: {pattern}"
    return None


def _matches(pattern: str, value: str) -> bool:
    if pattern.removeprefix("^").startswith(_LOCATION_PATTERNS) and value.startswith("file://"):
        return True
    # Java's Unicode classes, which the tag patterns use: letters and digits, and kinds of space.
    pattern = re.sub(r"\\p\{[LN]\}", r"\\w", pattern).replace(r"\p{Z}", " \u00a0")
    try:
        return re.fullmatch(pattern, value) is not None
    except re.error:
        return True
