"""Whether a role that `setup` made may read and write what a request names on S3.

SageMaker takes such a request, and the job fails an hour later, or captured data is missing without
a word. Of other roles nothing is said: what they may is in policies that nobody here may read.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import unquote

from sm_launch.aws.uris import split_s3
from sm_launch.target.refusals import Request, members

# CloudFormation user guide, "AWS::IAM::Role": the stack's name, the logical one, something random.
_OURS = re.compile(r".*role/(?P<name>[\w-]*-(?:Training|Hosting)Role-\w+)")
POLICY = "sm-launch"
"""Name of the policy that `setup` gives its roles."""
NOWHERE = "s3://not_yet"
"""Where an example has its files before anything is uploaded: underscores are in no bucket's name
(S3 user guide, "Bucket naming rules")."""
# Service model: fields that SageMaker writes to with the role; the rest of these it reads.
_WRITTEN = ("S3OutputPath", "S3FailurePath", "DestinationS3Uri")
_READ = ("S3Uri", "ModelDataUrl", "ArtifactUrl")


@dataclass(frozen=True)
class Need:
    """What a role must be allowed for a request.

    Attributes:
        operation: that names the place.
        call: which of the calls of that operation, from 0.
        path: of the place in the request.
        uri: the place.
        action: of IAM.
        role: ARN of the role.
    """

    operation: str
    call: int
    path: str
    uri: str
    action: str
    role: str


def needs(calls: Iterable[tuple[str, Request]]) -> Iterator[Need]:
    """What the roles of requests that belong together must be allowed on S3."""
    calls = list(calls)
    roles = [role for _, request in calls if (role := _role(request))]
    seen: Counter[str] = Counter()
    for operation, request in calls:
        call, seen[operation] = seen[operation], seen[operation] + 1
        # Endpoints and transforms have the role of their model.
        role = _role(request) or next(iter(roles), "")
        for path, text in members(request):
            name = path.rpartition(".")[2]
            if not text.startswith("s3://") or text.startswith(f"{NOWHERE}/"):
                continue
            written = name in _WRITTEN or "OutputConfig.Outputs" in path
            if written or "CheckpointConfig" in path:
                yield Need(operation, call, path, text, "s3:PutObject", role)
            if name in _READ and not written:
                yield Need(operation, call, path, text, "s3:GetObject", role)


def _role(request: Request) -> str:
    named = {path.rpartition(".")[2]: text for path, text in members(request)}
    return named.get("RoleArn") or named.get("ExecutionRoleArn") or ""


class Roles:
    """The policies of roles that `setup` made, each read once.

    Args:
        client: of IAM.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._policies: dict[str, list[Mapping[str, Any]] | None] = {}

    def forbids(self, need: Need) -> bool:
        """Whether a role of ours surely lacks what is needed.

        Raises:
            ClientError: nobody may look.
        """
        match = _OURS.fullmatch(need.role)
        if match is None:
            return False
        if need.role not in self._policies:
            self._policies[need.role] = self._read(match["name"])
        statements = self._policies[need.role]
        return statements is not None and not _allowed(statements, need)

    def _read(self, name: str) -> list[Mapping[str, Any]] | None:
        """Its statements; None where it is none of ours, or was given more than ours."""
        missing = self._client.exceptions.NoSuchEntityException
        try:
            document = self._client.get_role_policy(RoleName=name, PolicyName=POLICY)
        except missing:
            return None
        pages = self._client.get_paginator("list_attached_role_policies").paginate(RoleName=name)
        if any(page["AttachedPolicies"] for page in pages):
            return None
        policy = document["PolicyDocument"]
        read = json.loads(unquote(policy)) if isinstance(policy, str) else policy
        statements: list[Mapping[str, Any]] = read["Statement"]
        return statements


def _allowed(statements: list[Mapping[str, Any]], need: Need) -> bool:
    """Whether one of `policies.training`'s statements, which only allow, fits."""
    bucket, key = split_s3(need.uri)
    partition = need.role.split(":")[1]
    object_ = f"arn:{partition}:s3:::{bucket}/{key}"
    # A prefix stands for the objects below it.
    within = (object_, f"{object_.rstrip('/')}/x")
    return any(
        fnmatchcase(need.action, action) and fnmatchcase(each, resource)
        for statement in statements
        for action in _listed(statement["Action"])
        for resource in _listed(statement["Resource"])
        for each in within
    )


def _listed(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value]
