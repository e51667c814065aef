"""Tags of every kind of resource: add, list, delete."""

from __future__ import annotations

from typing import Any

from sm_launch.sessions.errors import ServiceError
from sm_launch.sessions.process.base import Machine, Response
from sm_launch.sessions.process.resources import ARN_PREFIX, Resources
from sm_launch.sessions.process.store import Record

_DOCUMENT = "tags"
_MOST = 50
"""AddTags: tags of one resource."""


class Tags:
    """What the creation request said, and what was changed since.

    Args:
        machine: where the resources are.
        kinds: those that can have tags.
    """

    def __init__(self, machine: Machine, *kinds: Resources) -> None:
        self._machine = machine
        self._kinds = {kind.resource: kind for kind in kinds}

    def add(self, **request: Any) -> Response:
        """Add tags; one with a known key replaces that one's value."""
        operation = "AddTags"
        self._machine.validator.check(operation, request)
        record = self._tagged(request["ResourceArn"], operation)
        tags = {**tags_of(record), **{tag["Key"]: tag["Value"] for tag in request["Tags"]}}
        if len(tags) > _MOST:
            raise ServiceError(
                f"{len(tags)} tags are more than the {_MOST} a resource can have", operation
            )
        record.write(_DOCUMENT, tags)
        return {"Tags": _as_list(tags)}

    def all(self, **request: Any) -> Response:
        """All tags of a resource."""
        self._machine.validator.check("ListTags", request)
        return {"Tags": _as_list(tags_of(self._tagged(request["ResourceArn"], "ListTags")))}

    def delete(self, **request: Any) -> Response:
        """Remove tags; keys that are not there are ignored."""
        operation = "DeleteTags"
        self._machine.validator.check(operation, request)
        record = self._tagged(request["ResourceArn"], operation)
        left = {
            key: value for key, value in tags_of(record).items() if key not in request["TagKeys"]
        }
        record.write(_DOCUMENT, left)
        return {}

    def _tagged(self, resource_arn: str, operation: str) -> Record:
        resource, _, name = resource_arn.removeprefix(f"{ARN_PREFIX}:").partition("/")
        kind = self._kinds.get(resource)
        record = self._machine.store.find(kind.directory, name) if kind and name else None
        if record is None:
            raise ServiceError(f"Could not find resource {resource_arn!r}.", operation)
        return record


def tags_of(record: Record) -> dict[str, str]:
    """Key to value of a record's tags."""
    if record.has(_DOCUMENT):
        return record.read(_DOCUMENT)
    return {tag["Key"]: tag["Value"] for tag in record.read("request")["request"].get("Tags", [])}


def _as_list(tags: dict[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]
