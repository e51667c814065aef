"""IAM's decision over identity policies, and what SageMaker does with a role for a request.

Only what our policies use: Allow, wildcards in actions and resources, and four condition operators.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

PSEUDO = {"AWS::Partition": "aws", "AWS::Region": "eu-central-1", "AWS::AccountId": "123456789012"}
HERE = f"{PSEUDO['AWS::Region']}:{PSEUDO['AWS::AccountId']}"
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
    """The statements of a role, or of a managed policy with what is granted beside it."""
    statements = []
    for each in (name, "LauncherGrants") if name == "LauncherPolicy" else (name,):
        if each in template["Resources"]:
            properties = template["Resources"][each]["Properties"]
            documents = properties.get("PolicyDocument"), *properties.get("Policies", ())
            statements += [
                statement
                for document in filter(None, documents)
                for statement in document.get("PolicyDocument", document)["Statement"]
            ]
    return [resolved(statement) for statement in statements]


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
    "CreateEndpoint": "Endpoints/mine", "CreateInferenceComponent": "InferenceComponents/mine",
}  # fmt: skip


def container_needs(operation: str, request: dict[str, Any]) -> list[Need]:
    """What the role of a request's containers is used for, read off the request."""
    needs: list[Need] = []
    if operation in LOGS:
        group = f"arn:aws:logs:{HERE}:log-group:/aws/sagemaker/{LOGS[operation]}:log-stream:x"
        needs += [("logs:CreateLogStream", group, {}), ("logs:PutLogEvents", group, {})]
    for path, text in strings(request):
        output = OUTPUTS & set(path) or "ProcessingOutputConfig" in path
        if text.startswith("s3://"):
            checkpoint = "CheckpointConfig" in path
            needs += writes(text) if output or checkpoint else []
            needs += [] if output else reads(text)
        elif ".dkr.ecr." in text:
            name = re.split("[:@]", text.rpartition("/")[2])[0]
            image = f"arn:aws:ecr:{HERE}:repository/{name}"
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
    "secretsmanager": lambda request: (
        f"arn:aws:secretsmanager:{HERE}:secret:{request['SecretId']}-a1b2c3"),
    "scheduler": lambda request: f"arn:aws:scheduler:{HERE}:schedule/default/{request['Name']}",
    "s3": lambda request: f"arn:aws:s3:::{request['Bucket']}" + (
        f"/{request['Key']}" if "Key" in request else ""),
    "logs": lambda request: f"arn:aws:logs:{HERE}:log-group:{request['logGroupName']}:x",
    # CloudFormation puts something behind the logical name.
    "iam": lambda request: "arn:aws:iam::123456789012:role/" + re.sub(
        r"^sm-launch-(\w+Role)-\w+$", r"\1", request["RoleName"]),
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
      "Endpoints", "EndpointConfigs", "Models", "InferenceComponents", "Dashboards", "Pipelines",
      "ModelPackages", "ModelPackageGroups", "ProcessingJobs", "Schedules")),
    "GetMetricData", "DescribeScalableTargets", "GetAuthorizationToken",
}  # fmt: skip


def caller_needs(service: str, operation: str, request: dict[str, Any]) -> list[Need]:
    """What whoever makes a call must be allowed."""
    prefix = {"sagemaker-runtime": "sagemaker", "service-quotas": "servicequotas",
              "monitoring": "cloudwatch"}.get(service, service)  # fmt: skip
    action = ACTIONS.get(f"{prefix}:{operation}", f"{prefix}:{operation}")
    if prefix == "kms" and not str(request["KeyId"]).startswith("arn:"):
        return []  # decided by the key that the name leads to
    needs: list[Need] = [(action, _resource(service, prefix, operation, request), {})]
    if request.get("Tags") and prefix in TAGGING:
        needs.append((TAGGING[prefix], needs[0][1], {}))
    if prefix == "application-autoscaling":
        needs += _scaler_needs(operation, request)
    passed_to = "scheduler" if prefix == "scheduler" else "sagemaker"
    for path, text in strings(request):
        if path[-1] in {"RoleArn", "ExecutionRoleArn"}:
            passed = {"iam:PassedToService": f"{passed_to}.amazonaws.com"}
            needs.append(("iam:PassRole", text, passed))
    return needs


def _scaler_needs(operation: str, request: dict[str, Any]) -> Iterator[Need]:
    """What Application Auto Scaling tries in the caller's name before it takes a request: its user
    guide, "Permissions validation for API calls on target resources"."""
    if operation == "RegisterScalableTarget":
        of_component = request["ResourceId"].startswith("inference-component/")
        changes = (
            "InferenceComponentRuntimeConfig" if of_component else "EndpointWeightsAndCapacities"
        )
        looks = "InferenceComponent" if of_component else "Endpoint"
        for action in (f"Update{changes}", f"Describe{looks}"):
            yield f"sagemaker:{action}", f"arn:aws:sagemaker:{HERE}:thing/x", {}
    elif operation == "PutScalingPolicy":
        for action in ("PutMetricAlarm", "DescribeAlarms", "DeleteAlarms"):
            yield f"cloudwatch:{action}", f"arn:aws:cloudwatch:{HERE}:alarm:x", {}


# A request that brings tags needs the right to tag, too.
TAGGING = {"sagemaker": "sagemaker:AddTags", "cloudwatch": "cloudwatch:TagResource",
           "application-autoscaling": "application-autoscaling:TagResource"}  # fmt: skip


def _resource(service: str, prefix: str, operation: str, request: dict[str, Any]) -> str:
    if service in NAMED and operation not in UNNAMED:
        return NAMED[service](request)
    if operation in UNNAMED or prefix in {"sts", "pricing", "servicequotas", "ec2"}:
        return "*"
    if prefix == "application-autoscaling":
        return f"arn:aws:application-autoscaling:{HERE}:scalable-target/x"
    if prefix == "cloudwatch":
        account = PSEUDO["AWS::AccountId"]
        board = f"arn:aws:cloudwatch::{account}:dashboard/x"
        if "ResourceARN" in request:
            return str(request["ResourceARN"])
        return board if "Dashboard" in operation else f"arn:aws:cloudwatch:{HERE}:alarm:x"
    if prefix == "ecr":
        return f"arn:aws:ecr:{HERE}:repository/{request['repositoryName']}"
    if prefix == "kms":
        return str(request["KeyId"])
    return f"arn:aws:{prefix}:{HERE}:thing/x"


def started(operation: str, request: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """What a schedule or a pipeline starts later: the role that does, operation and request."""
    if operation in {"CreateSchedule", "UpdateSchedule"}:
        yield "SchedulerRole", "CreateTrainingJob", json.loads(request["Target"]["Input"])
    elif operation in {"CreatePipeline", "UpdatePipeline"}:
        steps = json.loads(request["PipelineDefinition"])["Steps"]
        for step in steps_of(steps):
            if operation := STEPS.get(step["Type"], ""):
                yield "PipelineRole", operation, step["Arguments"]


STEPS = {"Processing": "CreateProcessingJob", "Training": "CreateTrainingJob",
         "RegisterModel": "CreateModelPackage"}  # fmt: skip


def steps_of(steps: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for step in steps:
        yield step
        yield from steps_of(step["Arguments"].get("IfSteps", []))
        yield from steps_of(step["Arguments"].get("ElseSteps", []))


KINDS = {"CreateProcessingJob": "processing-job", "CreateTrainingJob": "training-job",
         "CreateModelPackage": "model-package"}  # fmt: skip


def starter_needs(role: str, operation: str, request: dict[str, Any]) -> list[Need]:
    """What a role needs that starts jobs for others; a pipeline follows and stops them as well."""
    resource = f"arn:aws:sagemaker:{HERE}:{KINDS[operation]}/x"
    needs: list[Need] = [(f"sagemaker:{operation}", resource, {})]
    if request.get("Tags"):
        needs.append(("sagemaker:AddTags", resource, {}))
    if role == "PipelineRole":
        kinds = ("Describe", "Stop") if operation.endswith("Job") else ("Describe",)
        needs += [
            (f"sagemaker:{operation.replace('Create', kind)}", resource, {}) for kind in kinds
        ]
    if "RoleArn" in request:
        passed = {"iam:PassedToService": "sagemaker.amazonaws.com"}
        needs.append(("iam:PassRole", request["RoleArn"], passed))
    return needs


Call = tuple[str, str, dict[str, Any]]
POLICIES = ("LauncherPolicy", "TrainingRole", "HostingRole", "SchedulerRole", "PipelineRole")
HOSTS = {"CreateModel", "CreateEndpointConfig", "CreateEndpoint", "CreateTransformJob",
         "CreateInferenceComponent"}  # fmt: skip


def refused(template: dict[str, Any], calls: list[Call]) -> list[str]:
    """What the policies of `setup` do not allow of calls, and of what AWS does for them later."""
    policies = {name: policy(template, name) for name in POLICIES}
    problems = []
    for service, operation, request in calls:
        wanted = {"LauncherPolicy": caller_needs(service, operation, request)}
        if operation in {*LOGS, *HOSTS}:
            role = "HostingRole" if operation in HOSTS else "TrainingRole"
            wanted[role] = container_needs(operation, request)
        for starter, later, inner in started(operation, request):
            wanted.setdefault(starter, []).extend(starter_needs(starter, later, inner))
            if later in LOGS:
                wanted.setdefault("TrainingRole", []).extend(container_needs(later, inner))
        problems += [
            f"{operation}: {name}: {need}"
            for name, needs in wanted.items()
            for need in needs
            if not allowed(policies[name], need)
        ]
    return list(dict.fromkeys(problems))
