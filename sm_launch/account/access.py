"""What an account needs once: bucket, ECR repositories and two roles of least privilege.

Everything is one CloudFormation stack, so that setting up twice changes nothing, and a platform
team can read the template before it runs (`sm-launch setup --print`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sm_launch.aws.clients import account_id, make_client
from sm_launch.errors import LaunchError, UserInputError
from sm_launch.progress import progress
from sm_launch.target.context import JobContext

STACK = "sm-launch"
REPOSITORIES = ("sm-train", "sm-serve")
# IAM answers from many places: a new role can be unknown to SageMaker for some seconds.
PROPAGATION_SECONDS = 10.0
SECONDS_BETWEEN_LOOKS = 3.0

Document = dict[str, Any]


def template(
    bucket: str, prefix: str, *, kms_key: str | None = None, vpc: bool = False
) -> Document:
    """The CloudFormation template.

    Args:
        bucket: name of the bucket that is made.
        prefix: the roles reach no key outside it.
        kms_key: ARN of the key of bucket and volumes; None leaves it to S3's own.
        vpc: let the roles attach containers to subnets of a VPC.
    """
    more = [*(_kms(kms_key) if kms_key else []), *(_network() if vpc else [])]
    training = _role([*_training(bucket, prefix), *more])
    hosting = _role([*_hosting(bucket, prefix), *more])
    resources: Document = {
        "Bucket": _bucket(bucket, kms_key),
        "BucketPolicy": _tls_only(bucket),
        "TrainingRole": training,
        "HostingRole": hosting,
    }
    for name in REPOSITORIES:
        resources[_logical(name)] = _repository(name)
    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": "sm-launch: bucket, ECR repositories, roles for training and hosting",
        "Resources": resources,
        "Outputs": {
            "Bucket": {"Value": {"Ref": "Bucket"}},
            "TrainingRole": {"Value": {"Fn::GetAtt": ["TrainingRole", "Arn"]}},
            "HostingRole": {"Value": {"Fn::GetAtt": ["HostingRole", "Arn"]}},
        },
    }


@dataclass(frozen=True)
class Stack:
    """What was made: where, and its outputs Bucket, TrainingRole and HostingRole."""

    region: str
    outputs: dict[str, str]


def set_up(
    context: JobContext,
    *,
    bucket: str | None = None,
    prefix: str = "sm-launch",
    kms_key: str | None = None,
    vpc: bool = False,
    confirm: Callable[[str], None] = lambda bucket: None,
) -> Stack:
    """Make what an AWS account needs once; doing it again changes nothing.

    Args:
        context: whose region it is for.
        bucket: name of the bucket; default: sm-launch-<account>-<region>.
        prefix: of the keys that the roles may reach.
        kms_key: ARN of the key that encrypts bucket and volumes.
        vpc: let the roles run containers in a VPC's subnets.
        confirm: gets the bucket's name, and raises where nothing is to be made.

    Raises:
        UserInputError: the key is no ARN.
        LaunchError: CloudFormation could not make it.
    """
    require_key_arn(kms_key)
    region = str(make_client("s3", context.region).meta.region_name)
    named = bucket or f"sm-launch-{account_id(context.region)}-{region}"
    confirm(named)
    with progress(f"CloudFormation stack {STACK}"):
        made = create(named, prefix, context.region, make_client, kms_key=kms_key, vpc=vpc)
    return Stack(region, made)


def require_key_arn(kms_key: str | None) -> None:
    """Raise UserInputError for an alias: a policy takes none, and would quietly allow nothing."""
    if kms_key and not kms_key.startswith("arn:"):
        raise UserInputError("must be the key's ARN", field="--kms-key", value=kms_key)


def create(
    bucket: str,
    prefix: str,
    region: str | None,
    clients: Callable[[str, str | None], Any],
    sleep: Callable[[float], None] = time.sleep,
    *,
    kms_key: str | None = None,
    vpc: bool = False,
) -> dict[str, str]:
    """Make or update the stack and wait for it.

    Returns:
        The stack's outputs: Bucket, TrainingRole, HostingRole.

    Raises:
        LaunchError: CloudFormation could not make it; the message holds its first reason.
    """
    client = clients("cloudformation", region)
    request = {
        "StackName": STACK,
        "TemplateBody": json.dumps(template(bucket, prefix, kms_key=kms_key, vpc=vpc)),
        "Capabilities": ["CAPABILITY_IAM"],
        "Tags": [{"Key": "sm-launch:stack", "Value": STACK}],
    }
    changed = _create_or_update(client, request)
    stack = _wait(client, sleep)
    if changed == "created":
        sleep(PROPAGATION_SECONDS)
    return {item["OutputKey"]: item["OutputValue"] for item in stack["Outputs"]}


def _create_or_update(client: Any, request: Document) -> str:
    from botocore.exceptions import ClientError

    try:
        client.create_stack(**request)
        return "created"
    except client.exceptions.AlreadyExistsException:
        pass
    try:
        client.update_stack(**request)
    except ClientError as error:
        if "No updates are to be performed" not in str(error):
            raise
    return "updated"


def _wait(client: Any, sleep: Callable[[float], None]) -> Document:
    while True:
        stack: Document = client.describe_stacks(StackName=STACK)["Stacks"][0]
        status = stack["StackStatus"]
        if status in {"CREATE_COMPLETE", "UPDATE_COMPLETE"}:
            return stack
        if status.endswith(("_FAILED", "ROLLBACK_COMPLETE")):
            pages = client.get_paginator("describe_stack_events").paginate(StackName=STACK)
            events = [event for page in pages for event in page["StackEvents"]]
            reasons = [
                f"{event['LogicalResourceId']}: {event.get('ResourceStatusReason', '')}"
                for event in events
                if event.get("ResourceStatus", "").endswith("_FAILED")
            ]
            raise LaunchError(
                f"the stack {STACK} is {status}: {reasons[-1] if reasons else 'no reason given'}",
                fix=f"mend that, delete the stack (aws cloudformation delete-stack --stack-name "
                f"{STACK}) and run `sm-launch setup` again",
            )
        sleep(SECONDS_BETWEEN_LOOKS)


def _bucket(name: str, kms_key: str | None) -> Document:
    default = {"SSEAlgorithm": "AES256"}
    if kms_key:
        default = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": kms_key}
    encryption: Document = {"ServerSideEncryptionByDefault": default}
    if kms_key:
        encryption["BucketKeyEnabled"] = True
    block = ("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets")
    return {
        "Type": "AWS::S3::Bucket",
        # Models and data outlive the stack.
        "DeletionPolicy": "Retain",
        "UpdateReplacePolicy": "Retain",
        "Properties": {
            "BucketName": name,
            "BucketEncryption": {"ServerSideEncryptionConfiguration": [encryption]},
            "PublicAccessBlockConfiguration": dict.fromkeys(block, True),
            "OwnershipControls": {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]},
            "LifecycleConfiguration": {
                "Rules": [
                    {
                        "Id": "broken-off-uploads",
                        "Status": "Enabled",
                        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 3},
                    }
                ]
            },
        },
    }


def _tls_only(bucket: str) -> Document:
    deny = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": [_sub(f"s3:::{bucket}"), _sub(f"s3:::{bucket}/*")],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    policy = {"Version": "2012-10-17", "Statement": [deny]}
    properties = {"Bucket": {"Ref": "Bucket"}, "PolicyDocument": policy}
    return {"Type": "AWS::S3::BucketPolicy", "Properties": properties}


def _repository(name: str) -> Document:
    rule = {
        "rulePriority": 1,
        "selection": {"tagStatus": "untagged", "countType": "sinceImagePushed",
                      "countUnit": "days", "countNumber": 14},
        "action": {"type": "expire"},
    }  # fmt: skip
    return {
        "Type": "AWS::ECR::Repository",
        "DeletionPolicy": "Retain",
        "UpdateReplacePolicy": "Retain",
        "Properties": {
            "RepositoryName": name,
            "ImageTagMutability": "IMMUTABLE",
            "ImageScanningConfiguration": {"ScanOnPush": True},
            "LifecyclePolicy": {"LifecyclePolicyText": json.dumps({"rules": [rule]})},
        },
    }


def _role(statements: list[Document]) -> Document:
    trust = {
        "Effect": "Allow",
        "Principal": {"Service": "sagemaker.amazonaws.com"},
        "Action": "sts:AssumeRole",
        # No other account's SageMaker can be talked into using the role.
        "Condition": {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}},
    }
    policy = {
        "PolicyName": "sm-launch",
        "PolicyDocument": {"Version": "2012-10-17", "Statement": statements},
    }
    return {
        "Type": "AWS::IAM::Role",
        "Properties": {
            "AssumeRolePolicyDocument": {"Version": "2012-10-17", "Statement": [trust]},
            "Policies": [policy],
        },
    }


def _training(bucket: str, prefix: str) -> list[Document]:
    return [
        *_list(bucket, prefix),
        _objects(bucket, prefix, "s3:GetObject", "s3:PutObject", "s3:DeleteObject",
                 "s3:AbortMultipartUpload"),
        *_common("sm-train", "/aws/sagemaker/TrainingJobs"),
    ]  # fmt: skip


def _hosting(bucket: str, prefix: str) -> list[Document]:
    return [
        *_list(bucket, prefix),
        # Captured data and asynchronous answers are written; models are only read.
        _objects(bucket, prefix, "s3:GetObject"),
        *(
            _objects(bucket, f"{prefix}/*/{area}", "s3:PutObject", "s3:AbortMultipartUpload")
            for area in ("endpoints", "transforms")
        ),
        *_common(
            "sm-serve",
            "/aws/sagemaker/Endpoints/*",
            "/aws/sagemaker/InferenceComponents/*",
            "/aws/sagemaker/TransformJobs",
        ),
    ]


def _list(bucket: str, prefix: str) -> list[Document]:
    resource = _sub(f"s3:::{bucket}")
    # Two statements: a request for the location has no prefix, and one to list must have ours.
    return [
        {"Effect": "Allow", "Action": ["s3:GetBucketLocation"], "Resource": resource},
        {
            "Effect": "Allow",
            "Action": ["s3:ListBucket"],
            "Resource": resource,
            "Condition": {"StringLike": {"s3:prefix": [f"{prefix}/*", prefix]}},
        },
    ]


def _objects(bucket: str, prefix: str, *actions: str) -> Document:
    resource = _sub(f"s3:::{bucket}/{prefix}/*")
    return {"Effect": "Allow", "Action": list(actions), "Resource": resource}


def _common(repository: str, *log_groups: str) -> list[Document]:
    here = "${AWS::Region}:${AWS::AccountId}"
    pull = ("BatchGetImage", "GetDownloadUrlForLayer", "BatchCheckLayerAvailability")
    write = ("CreateLogGroup", "CreateLogStream", "PutLogEvents", "DescribeLogStreams")
    return [
        {
            "Effect": "Allow",
            "Action": [f"logs:{action}" for action in write],
            "Resource": [_sub(f"logs:{here}:log-group:{group}:*") for group in log_groups],
        },
        {
            "Effect": "Allow",
            "Action": [f"ecr:{action}" for action in pull],
            "Resource": _sub(f"ecr:{here}:repository/{repository}"),
        },
        # These two actions know no resources.
        {"Effect": "Allow", "Action": ["ecr:GetAuthorizationToken"], "Resource": "*"},
        {
            "Effect": "Allow",
            "Action": ["cloudwatch:PutMetricData"],
            "Resource": "*",
            "Condition": {"StringLike": {"cloudwatch:namespace": "/aws/sagemaker/*"}},
        },
    ]


def _kms(key: str) -> list[Document]:
    # The grant is what lets SageMaker attach an encrypted volume, and is for AWS services only.
    use = ("Encrypt", "Decrypt", "ReEncryptFrom", "ReEncryptTo", "GenerateDataKey", "DescribeKey")
    return [
        {"Effect": "Allow", "Action": [f"kms:{action}" for action in use], "Resource": key},
        {
            "Effect": "Allow",
            "Action": ["kms:CreateGrant"],
            "Resource": key,
            "Condition": {"Bool": {"kms:GrantIsForAWSResource": "true"}},
        },
    ]


def _network() -> list[Document]:
    here = "${AWS::Region}:${AWS::AccountId}"
    kinds = ("network-interface", "subnet", "security-group")
    make = ("CreateNetworkInterface", "CreateNetworkInterfacePermission",
            "DeleteNetworkInterface", "DeleteNetworkInterfacePermission")  # fmt: skip
    look = ("NetworkInterfaces", "Vpcs", "DhcpOptions", "Subnets", "SecurityGroups")
    return [
        {
            "Effect": "Allow",
            "Action": [f"ec2:{action}" for action in make],
            "Resource": [_sub(f"ec2:{here}:{kind}/*") for kind in kinds],
        },
        # Describing knows no resources.
        {"Effect": "Allow", "Action": [f"ec2:Describe{kind}" for kind in look], "Resource": "*"},
    ]


def _sub(tail: str) -> Document:
    return {"Fn::Sub": "arn:${AWS::Partition}:" + tail}


def _logical(name: str) -> str:
    return "".join(part.title() for part in name.split("-"))
