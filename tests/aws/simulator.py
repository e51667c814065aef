"""IAM's decision over identity policies, and what SageMaker does with a role for a request.

Only what our policies use: Allow, wildcards in actions and resources, and four condition operators.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

PSEUDO = {"AWS::Partition": "aws", "AWS::Region": "eu-central-1", "AWS::AccountId": "123456789012"}
Need = tuple[str, str, dict[str, str]]


def resolved(value: Any) -> Any:
    """A part of a template with CloudFormation's functions filled in."""
    if isinstance(value, list):
        return [resolved(each) for each in value]
    if not isinstance(value, dict):
        return value
    if "Fn::Sub" in value:
        return re.sub(r"\$\{([^}]+)\}", lambda name: PSEUDO[name[1]], value["Fn::Sub"])
    if "Fn::GetAtt" in value:
        return f"arn:aws:iam::{PSEUDO['AWS::AccountId']}:role/{value['Fn::GetAtt'][0]}"
    if "Ref" in value:
        return PSEUDO.get(value["Ref"], value["Ref"])
    return {key: resolved(each) for key, each in value.items()}


def policy(template: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """The statements of a role, or of a managed policy."""
    properties = template["Resources"][name]["Properties"]
    document = properties.get("PolicyDocument") or properties["Policies"][0]["PolicyDocument"]
    return [resolved(statement) for statement in document["Statement"]]


def allowed(statements: list[dict[str, Any]], need: Need) -> bool:
    """Whether the policy allows an action on a resource in a context."""
    action, resource, context = need
    return any(
        any(fnmatchcase(action.lower(), each.lower()) for each in listed(statement["Action"]))
        and any(fnmatchcase(resource, each) for each in listed(statement["Resource"]))
        and all(
            met(operator, context.get(key), listed(values))
            for operator, wanted in statement.get("Condition", {}).items()
            for key, values in wanted.items()
        )
        for statement in statements
    )


def met(operator: str, value: str | None, wanted: list[str]) -> bool:
    if value is None:
        return False
    if operator in {"StringLike", "ArnEquals"}:  # which both take wildcards
        return any(fnmatchcase(value, each) for each in wanted)
    assert operator in {"StringEquals", "Bool"}, operator
    return value in wanted


def listed(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value]


def arn(uri: str) -> str:
    return f"arn:aws:s3:::{uri.removeprefix('s3://').rstrip('/')}"


def reads(uri: str) -> Iterator[Need]:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    yield "s3:ListBucket", f"arn:aws:s3:::{bucket}", {"s3:prefix": key}
    inside = arn(uri) + ("" if re.search(r"\.\w+$", key) else "/file")
    yield "s3:GetObject", inside, {}


def writes(uri: str) -> Iterator[Need]:
    yield "s3:PutObject", f"{arn(uri)}/x", {}


OUTPUTS = {"S3OutputPath", "S3FailurePath", "DestinationS3Uri"}
LOGS = {
    "CreateTrainingJob": "TrainingJobs", "CreateHyperParameterTuningJob": "TrainingJobs",
    "CreateProcessingJob": "ProcessingJobs", "CreateTransformJob": "TransformJobs",
    "CreateEndpoint": "Endpoints/mine",
}  # fmt: skip


def container_needs(operation: str, request: dict[str, Any]) -> list[Need]:
    """What the role of a request's containers is used for, read off the request."""
    here = f"{PSEUDO['AWS::Region']}:{PSEUDO['AWS::AccountId']}"
    needs: list[Need] = []
    if operation in LOGS:
        group = f"arn:aws:logs:{here}:log-group:/aws/sagemaker/{LOGS[operation]}:log-stream:x"
        needs += [("logs:CreateLogStream", group, {}), ("logs:PutLogEvents", group, {})]
    for path, text in strings(request):
        output = OUTPUTS & set(path) or "ProcessingOutputConfig" in path
        if text.startswith("s3://"):
            checkpoint = "CheckpointConfig" in path
            needs += writes(text) if output or checkpoint else []
            needs += [] if output else reads(text)
        elif ".dkr.ecr." in text:
            name = text.rpartition("/")[2].partition(":")[0]
            image = f"arn:aws:ecr:{here}:repository/{name}"
            needs += [("ecr:BatchGetImage", image, {}), ("ecr:GetDownloadUrlForLayer", image, {})]
            needs.append(("ecr:GetAuthorizationToken", "*", {}))
        elif text.startswith("arn:aws:sns:"):
            needs.append(("sns:Publish", text, {}))
    return needs


def strings(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    if isinstance(value, dict):
        for key, each in value.items():
            yield from strings(each, (*path, key))
    elif isinstance(value, list):
        for each in value:
            yield from strings(each, path)
    elif isinstance(value, str):
        yield path, value


NAMED = {
    "s3": lambda request: f"arn:aws:s3:::{request['Bucket']}" + (
        f"/{request['Key']}" if "Key" in request else ""),
    "logs": lambda request: (
        f"arn:aws:logs:eu-central-1:123456789012:log-group:{request['logGroupName']}:x"),
    "iam": lambda request: f"arn:aws:iam::123456789012:role/{request['RoleName']}",
}  # fmt: skip
# IAM's actions that have another name than the operation.
ACTIONS = {
    "s3:ListObjectsV2": "s3:ListBucket", "s3:HeadBucket": "s3:ListBucket",
    "s3:HeadObject": "s3:GetObject", "s3:CreateMultipartUpload": "s3:PutObject",
    "s3:GetBucketEncryption": "s3:GetEncryptionConfiguration",
    "s3:GetPublicAccessBlock": "s3:GetBucketPublicAccessBlock",
}  # fmt: skip


# Operations without a resource: the service authorization reference.
UNNAMED = {
    *(f"List{kind}" for kind in ("TrainingJobs", "HyperParameterTuningJobs", "TransformJobs",
      "Endpoints", "EndpointConfigs", "Models", "InferenceComponents", "Dashboards")),
    "GetMetricData", "DescribeScalableTargets", "GetAuthorizationToken",
}  # fmt: skip


def caller_needs(service: str, operation: str, request: dict[str, Any]) -> list[Need]:
    """What whoever makes a call must be allowed."""
    prefix = {"sagemaker-runtime": "sagemaker", "service-quotas": "servicequotas",
              "monitoring": "cloudwatch"}.get(service, service)  # fmt: skip
    action = ACTIONS.get(f"{prefix}:{operation}", f"{prefix}:{operation}")
    resource = f"arn:aws:{prefix}:eu-central-1:123456789012:thing/x"
    if service in NAMED:
        resource = NAMED[service](request)
    elif operation in UNNAMED or prefix in {"sts", "pricing", "servicequotas", "ec2"}:
        resource = "*"
    elif prefix == "application-autoscaling":
        resource = "arn:aws:application-autoscaling:eu-central-1:123456789012:scalable-target/x"
    elif prefix == "cloudwatch":
        resource = "arn:aws:cloudwatch:eu-central-1:123456789012:alarm:x"
    needs: list[Need] = [(action, resource, {})]
    for path, text in strings(request):
        if path[-1] in {"RoleArn", "ExecutionRoleArn"}:
            passed = {"iam:PassedToService": "sagemaker.amazonaws.com"}
            needs.append(("iam:PassRole", text, passed))
    return needs
