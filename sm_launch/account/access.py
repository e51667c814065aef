"""What an account needs once: bucket, ECR repositories, roles of least privilege, a policy.

Everything is one CloudFormation stack, so that setting up twice changes nothing, and a platform
team can read the template before it runs (`sm-launch setup --print`).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

from sm_launch.account import policies
from sm_launch.account.policies import Document, Grants
from sm_launch.account.stacks import StackClient
from sm_launch.aws.clients import account_id, make_client
from sm_launch.errors import UserInputError
from sm_launch.images.ecr import LIFECYCLE_POLICY
from sm_launch.progress import progress
from sm_launch.target.context import JobContext

STACK = "sm-launch"
REPOSITORIES = ("sm-train", "sm-serve")
LAUNCHERS = ("LauncherPolicy", "LauncherGrants")
"""The policies of those who launch; the second one only where more is granted."""
_NOTES = "sm-launch"
"""Key of the template's metadata that keeps what was granted, for the next time."""


def template(
    bucket: str, grants: Grants | None = None, outside: frozenset[str] = frozenset()
) -> Document:
    """The CloudFormation template.

    Args:
        bucket: its name.
        grants: what the roles may do; default: what a bucket of our own takes.
        outside: what is there without the stack, and stays as it is: `bucket`, or repositories.
    """
    grants = grants or Grants()
    resources: Document = {
        "TrainingRole": _role(policies.training(bucket, grants)),
        "HostingRole": _role(policies.hosting(bucket, grants)),
        "SchedulerRole": _role(
            policies.scheduling({"Fn::GetAtt": ["TrainingRole", "Arn"]}), "scheduler"
        ),
        "PipelineRole": _role(policies.pipelines({"Fn::GetAtt": ["TrainingRole", "Arn"]})),
        "LauncherPolicy": _launcher(bucket, grants),
    }
    if (more := policies.granted(grants)) is not None:
        resources["LauncherGrants"] = _managed("Run sm-launch: what setup grants besides", more)
    if "bucket" not in outside:
        resources["Bucket"] = _bucket(bucket, grants.kms_key)
        resources["BucketPolicy"] = _tls_only(bucket)
    for name in REPOSITORIES:
        if name not in outside:
            resources[_logical(name)] = _repository(name)
    named = bucket if "bucket" in outside else {"Ref": "Bucket"}
    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": "sm-launch: bucket, ECR repositories, roles for training and hosting",
        "Metadata": {_NOTES: {"bucket": bucket, **_told(grants)}},
        "Resources": resources,
        "Outputs": {
            "Bucket": {"Value": named},
            "TrainingRole": {"Value": {"Fn::GetAtt": ["TrainingRole", "Arn"]}},
            "HostingRole": {"Value": {"Fn::GetAtt": ["HostingRole", "Arn"]}},
            "SchedulerRole": {"Value": {"Fn::GetAtt": ["SchedulerRole", "Arn"]}},
            "PipelineRole": {"Value": {"Fn::GetAtt": ["PipelineRole", "Arn"]}},
            **{name: {"Value": {"Ref": name}} for name in LAUNCHERS if name in resources},
        },
    }


@dataclass(frozen=True)
class Stack:
    """What was made: where, for which keys, and its outputs.

    Attributes:
        region: where.
        outputs: Bucket, the four roles by their names, and the policies (`LAUNCHERS`).
        grants: what the roles may do now.
    """

    region: str
    outputs: dict[str, str]
    grants: Grants


def set_up(
    context: JobContext,
    *,
    bucket: str | None = None,
    grants: Grants | None = None,
    fresh: bool = False,
    confirm: Callable[[str, Grants], None] = lambda bucket, grants: None,
) -> Stack:
    """Make the stack, or bring it up to date; a half-made one is mended first.

    What an earlier set-up granted stays, unless `fresh`: a call without --read takes nothing away.

    Args:
        context: says the region, and gets what the user is told.
        bucket: its name; default: the stack's, else sm-launch-<account>-<region>.
        grants: what the roles are to do.
        fresh: forget what earlier calls granted.
        confirm: gets the bucket and all grants, and raises where nothing is to be made.

    Raises:
        UserInputError: the bucket is another account's.
        LaunchError: CloudFormation could not make it.
    """
    region = str(make_client("s3", context.region).meta.region_name)
    stack = StackClient(make_client("cloudformation", context.region), STACK, context.notify)
    before = stack.metadata().get(_NOTES, {})
    wanted = grants or Grants()
    if not fresh:
        wanted = _with_earlier(wanted, before, context)
    account = account_id(context.region)
    named = bucket or before.get("bucket") or f"sm-launch-{account}-{region}"
    outside = _outside(named, account, stack.resources(), context)
    confirm(named, wanted)
    with progress(f"CloudFormation stack {STACK}"):
        outputs = stack.apply(template(named, wanted, outside))
    return Stack(region, outputs, wanted)


def _with_earlier(wanted: Grants, before: Document, context: JobContext) -> Grants:
    """Grants of an earlier set-up stay where this one says nothing of them."""
    default = Grants()
    kept = {
        name: before[name]
        for name in ("prefix", "kms_key", "vpc")
        if before.get(name) and getattr(wanted, name) == getattr(default, name) != before[name]
    }
    for name in ("read", "write", "topics", "mlflow"):
        earlier = [each for each in before.get(name, ()) if each not in getattr(wanted, name)]
        if earlier:
            kept[name] = (*earlier, *getattr(wanted, name))
            context.notify(f"stays granted: {', '.join(earlier)} (--fresh takes it away)")
    for name in ("prefix", "kms_key", "vpc"):
        if name in kept:
            context.notify(f"{name} stays {kept[name]} (--fresh takes it away)")
    return replace(wanted, **kept)


def _outside(
    bucket: str, account: str, owned: frozenset[str], context: JobContext
) -> frozenset[str]:
    """What is there already and is not the stack's: `make push` makes repositories, too."""
    from botocore.exceptions import ClientError

    outside = set()
    if "Bucket" not in owned:
        try:
            make_client("s3", context.region).head_bucket(
                Bucket=bucket, ExpectedBucketOwner=account
            )
            outside.add("bucket")
        except ClientError as error:
            if error.response["Error"]["Code"] in {"403", "301"}:
                raise UserInputError(
                    "is another account's, or in another region",
                    field="--bucket",
                    value=bucket,
                    fix="give a name of your own",
                ) from None
    ecr = make_client("ecr", context.region)
    for name in REPOSITORIES:
        if _logical(name) in owned:
            continue
        try:
            ecr.describe_repositories(repositoryNames=[name])
            outside.add(name)
        except ecr.exceptions.RepositoryNotFoundException:
            pass
    for name in sorted(outside):
        what = f"the bucket {bucket}" if name == "bucket" else f"the repository {name}"
        context.notify(f"{what} is there already, and stays as it is")
    return frozenset(outside)


def _told(grants: Grants) -> Document:
    return {key: value for key, value in asdict(grants).items() if value}


def _launcher(bucket: str, grants: Grants) -> Document:
    """For the person or CI that launches: attach it to their user, group or role."""
    passed = ("TrainingRole", "HostingRole", "PipelineRole")
    roles = [{"Fn::GetAtt": [name, "Arn"]} for name in passed]
    document = policies.launching(
        bucket, grants, roles, {"Fn::GetAtt": ["SchedulerRole", "Arn"]}, list(REPOSITORIES)
    )
    described = "Run sm-launch: jobs, endpoints, images, data; passes its roles to SageMaker"
    return _managed(described, document)


def _managed(described: str, document: Document) -> Document:
    return {
        "Type": "AWS::IAM::ManagedPolicy",
        "Properties": {"Description": described, "PolicyDocument": document},
    }


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
        # Models and data outlive the stack; what a first try made half does not.
        "DeletionPolicy": "RetainExceptOnCreate",
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
    return {
        "Type": "AWS::ECR::Repository",
        "DeletionPolicy": "RetainExceptOnCreate",
        "UpdateReplacePolicy": "Retain",
        "Properties": {
            "RepositoryName": name,
            "ImageTagMutability": "IMMUTABLE",
            "ImageScanningConfiguration": {"ScanOnPush": True},
            "LifecyclePolicy": {"LifecyclePolicyText": json.dumps(LIFECYCLE_POLICY)},
        },
    }


def _role(statements: list[Document], service: str = "sagemaker") -> Document:
    trust = {
        "Effect": "Allow",
        "Principal": {"Service": f"{service}.amazonaws.com"},
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


def _sub(tail: str) -> Document:
    return {"Fn::Sub": "arn:${AWS::Partition}:" + tail}


def _logical(name: str) -> str:
    return "".join(part.title() for part in name.split("-"))
