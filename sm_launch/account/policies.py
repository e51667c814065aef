"""What the roles of containers, and whoever launches them, may do: statements of IAM policies.

Actions, resources and condition keys are those of IAM's service authorization reference; tests hold
them against its grammar, and walk the launcher's requests through them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sm_launch.aws.uris import ACCESS_POINT_ALIAS, DIRECTORY_BUCKET, split_s3
from sm_launch.errors import UserInputError

Document = dict[str, Any]
_HERE = "${AWS::Region}:${AWS::AccountId}"
# IAM user guide, "IAM and AWS STS quotas": of a managed policy, white space not counted.
_MOST_CHARACTERS = 6144
# SageMaker's service model, TrackingServerArn.
_TRACKING_SERVER = re.compile(
    r"arn:aws[a-z-]*:sagemaker:[a-z0-9-]+:\d{12}:mlflow-tracking-server/[A-Za-z0-9-]+"
)


@dataclass(frozen=True)
class Grants:
    """What an account's set-up allows beyond its own bucket and prefix.

    Attributes:
        prefix: of the keys in the bucket that the roles reach.
        kms_key: ARN of the key of bucket and volumes; None leaves it to S3's own.
        vpc: id of the VPC in whose subnets the roles may run containers.
        read: s3:// URIs of other buckets, or folders of them, that the roles may read.
        write: likewise those that they may write to, and read.
        topics: ARNs of SNS topics that asynchronous endpoints tell their results.
        mlflow: ARNs of SageMaker's MLflow tracking servers that training logs to.
    """

    prefix: str = "sm-launch"
    kms_key: str | None = None
    vpc: str | None = None
    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()
    mlflow: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raise UserInputError for what a policy would take and quietly allow nothing by."""
        if self.kms_key and not self.kms_key.startswith("arn:"):
            raise UserInputError("must be the key's ARN", field="--kms-key", value=self.kms_key)
        for field, uris in (("--read", self.read), ("--write", self.write)):
            for uri in uris:
                _require_place(field, uri)
        for topic in self.topics:
            if not topic.startswith("arn:") or ":sns:" not in topic:
                raise UserInputError("must be a topic's ARN", field="--topic", value=topic)
        for server in self.mlflow:
            if not _TRACKING_SERVER.fullmatch(server):
                raise UserInputError(
                    "must be a tracking server's ARN",
                    field="--mlflow",
                    value=server,
                    fix="write arn:aws:sagemaker:REGION:ACCOUNT:mlflow-tracking-server/NAME",
                )
        if self.vpc and not self.vpc.startswith(("vpc-", "${")):
            raise UserInputError("must be a VPC's id", field="--vpc", value=self.vpc,
                                 fix="such as vpc-0123456789abcdef0")  # fmt: skip


def _require_place(field: str, uri: str) -> None:
    bucket = split_s3(uri)[0] if uri.startswith("s3://") else ""
    if not bucket or set("*?") & set(uri):
        raise UserInputError("is no bucket or folder on S3", field=field, value=uri,
                             fix="write s3://BUCKET or s3://BUCKET/FOLDER")  # fmt: skip
    if bucket.startswith("arn:") or bucket.endswith(ACCESS_POINT_ALIAS):
        # IAM user guide: a policy names an access point by its ARN, and its bucket's name is none.
        raise UserInputError("is an access point", field=field, value=uri,
                             fix="name the bucket behind it")  # fmt: skip
    if bucket.endswith(DIRECTORY_BUCKET):
        raise UserInputError(
            "is a directory bucket, which other actions are for",
            field=field,
            value=uri,
            fix="attach a policy with s3express:CreateSession on it to the roles that setup made",
        )


# What an endpoint or a transform reads below a job's prefix; not its data and checkpoints.
_SERVED = ("jobs", "input/endpoint-model", "input/transform", "endpoints", "transforms")
_WRITTEN = ("jobs", "checkpoints", "prepared")


# What a run takes from its beginning to its end; nothing is deleted, no model registered.
_TRACK = ("CreateExperiment", "GetExperiment", "GetExperimentByName", "CreateRun", "GetRun",
          "UpdateRun", "LogBatch", "LogMetric", "LogParam", "SetTag")  # fmt: skip
# What `register` takes: the run is looked for, the version made and waited for.
_REGISTER = ("SearchExperiments", "SearchRuns", "GetRegisteredModel", "CreateRegisteredModel",
             "CreateModelVersion", "GetModelVersion")  # fmt: skip


def training(bucket: str, grants: Grants) -> list[Document]:
    """Of training, processing and tuning jobs.

    SageMaker developer guide, "How to use SageMaker AI execution roles", CreateTrainingJob and
    CreateProcessingJob: nothing is deleted.
    """
    return [
        *_list(bucket, grants.prefix),
        _objects(bucket, grants.prefix, "s3:GetObject"),
        _objects_of(bucket, grants.prefix, _WRITTEN, "s3:PutObject", "s3:AbortMultipartUpload"),
        *_common("sm-train", "/aws/sagemaker/TrainingJobs", "/aws/sagemaker/ProcessingJobs"),
        *([_allow("sagemaker-mlflow", _TRACK, *grants.mlflow)] if grants.mlflow else []),
        *_more(grants),
    ]


def hosting(bucket: str, grants: Grants) -> list[Document]:
    """Of endpoints and batch transforms: the same page, CreateModel."""
    topics = [_sub(f"sns:{_HERE}:{grants.prefix}-*"), *grants.topics]
    return [
        *_list(bucket, grants.prefix),
        # Captured data and asynchronous answers are written; models are only read.
        _objects_of(bucket, grants.prefix, _SERVED, "s3:GetObject"),
        _objects_of(bucket, grants.prefix, ("endpoints", "transforms"), "s3:PutObject",
                    "s3:AbortMultipartUpload"),
        *_common(
            "sm-serve",
            "/aws/sagemaker/Endpoints/*",
            "/aws/sagemaker/InferenceComponents/*",
            "/aws/sagemaker/TransformJobs",
        ),
        # The same guide, "Asynchronous inference", Prerequisites.
        {"Effect": "Allow", "Action": ["sns:Publish"], "Resource": topics},
        *_more(grants),
    ]  # fmt: skip


def _more(grants: Grants) -> list[Document]:
    return [
        *_read((*grants.read, *grants.write)),
        *(
            [_allow("s3", ("PutObject", "AbortMultipartUpload"), *_objects_below(grants.write))]
            if grants.write
            else []
        ),
        *(_kms(grants.kms_key) if grants.kms_key else []),
        *(_network(grants.vpc) if grants.vpc else []),
    ]


def _read(uris: tuple[str, ...]) -> list[Document]:
    """As few statements as can be: a managed policy has room for 6144 characters."""
    if not uris:
        return []
    folders: dict[str, list[str]] = {}
    for uri in uris:
        bucket, key = split_s3(uri)
        folders.setdefault(bucket, []).append(key.rstrip("/"))
    return [
        _allow("s3", ("GetBucketLocation",), *(_sub(f"s3:::{bucket}") for bucket in folders)),
        *(_list_below(bucket, named) for bucket, named in folders.items()),
        _allow("s3", ("GetObject",), *_objects_below(uris)),
    ]


def _objects_below(uris: tuple[str, ...]) -> list[Document]:
    places = ("/".join(filter(None, split_s3(uri))).rstrip("/") for uri in uris)
    return [_sub(f"s3:::{place}/*") for place in places]


def _list(bucket: str, prefix: str) -> list[Document]:
    # Two statements: a request for the location has no prefix, and one to list must have ours.
    return [
        _allow("s3", ("GetBucketLocation",), _sub(f"s3:::{bucket}")),
        _list_below(bucket, [prefix]),
    ]


def _list_below(bucket: str, folders: list[str]) -> Document:
    """Listing of some folders; an empty name is the whole bucket."""
    statement = _allow("s3", ("ListBucket",), _sub(f"s3:::{bucket}"))
    if "" in folders:
        return statement
    prefixes = [prefix for folder in folders for prefix in (f"{folder}/*", folder)]
    return {**statement, "Condition": {"StringLike": {"s3:prefix": prefixes}}}


def _objects(bucket: str, prefix: str, *actions: str) -> Document:
    resource = _sub(f"s3:::{bucket}/{prefix}/*")
    return {"Effect": "Allow", "Action": list(actions), "Resource": resource}


def _objects_of(bucket: str, prefix: str, areas: Sequence[str], *actions: str) -> Document:
    """Objects in some folders of every job."""
    resources = [_sub(f"s3:::{bucket}/{prefix}/*/{area}/*") for area in areas]
    return {"Effect": "Allow", "Action": list(actions), "Resource": resources}


def _common(repository: str, *log_groups: str) -> list[Document]:
    pull = ("BatchGetImage", "GetDownloadUrlForLayer", "BatchCheckLayerAvailability")
    write = ("CreateLogGroup", "CreateLogStream", "PutLogEvents", "DescribeLogStreams")
    return [
        {
            "Effect": "Allow",
            "Action": [f"logs:{action}" for action in write],
            "Resource": [_sub(f"logs:{_HERE}:log-group:{group}:*") for group in log_groups],
        },
        {
            "Effect": "Allow",
            "Action": [f"ecr:{action}" for action in pull],
            "Resource": _sub(f"ecr:{_HERE}:repository/{repository}"),
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


def _network(vpc: str) -> list[Document]:
    kinds = ("network-interface", "subnet", "security-group")
    make = ("CreateNetworkInterface", "CreateNetworkInterfacePermission",
            "DeleteNetworkInterface", "DeleteNetworkInterfacePermission")  # fmt: skip
    look = ("NetworkInterfaces", "Vpcs", "DhcpOptions", "Subnets", "SecurityGroups")
    arn = _sub(f"ec2:{_HERE}:vpc/{vpc}")
    return [
        {
            "Effect": "Allow",
            "Action": [f"ec2:{action}" for action in make[:1]],
            "Resource": [_sub(f"ec2:{_HERE}:{kind}/*") for kind in kinds],
            "Condition": {"ArnEquals": {"ec2:Vpc": arn}},
        },
        {
            "Effect": "Allow",
            "Action": [f"ec2:{action}" for action in make[1:]],
            "Resource": _sub(f"ec2:{_HERE}:network-interface/*"),
            "Condition": {"ArnEquals": {"ec2:Vpc": arn}},
        },
        # Describing knows no resources.
        {"Effect": "Allow", "Action": [f"ec2:Describe{kind}" for kind in look], "Resource": "*"},
    ]


def _sub(tail: str) -> Document:
    return {"Fn::Sub": "arn:${AWS::Partition}:" + tail}


_RUN = (
    "CreateTrainingJob", "DescribeTrainingJob", "StopTrainingJob", "CreateHyperParameterTuningJob",
    "DescribeHyperParameterTuningJob", "StopHyperParameterTuningJob",
    "ListTrainingJobsForHyperParameterTuningJob", "CreateProcessingJob", "DescribeProcessingJob",
    "StopProcessingJob", "CreateTransformJob", "DescribeTransformJob", "StopTransformJob",
    "ListPipelineExecutions", "DescribePipelineExecution", "StopPipelineExecution",
    "DescribePipeline", "AddTags", "ListTags",
    "CreateModelPackage", "DescribeModelPackage", "CreateModelPackageGroup",
    "DescribeModelPackageGroup", "CreatePipeline", "UpdatePipeline",
)  # fmt: skip
_HOST = (
    "CreateModel", "DescribeModel", "DeleteModel", "CreateEndpointConfig", "DescribeEndpointConfig",
    "DeleteEndpointConfig", "CreateEndpoint", "DescribeEndpoint", "UpdateEndpoint",
    "UpdateEndpointWeightsAndCapacities", "DeleteEndpoint", "CreateInferenceComponent",
    "DescribeInferenceComponent", "UpdateInferenceComponent", "DeleteInferenceComponent",
    # By this, and weights and capacities, Application Auto Scaling tells who may scale: its user
    # guide, "Permissions validation for API calls on target resources".
    "UpdateInferenceComponentRuntimeConfig",
    "InvokeEndpoint", "InvokeEndpointAsync", "InvokeEndpointWithResponseStream",
)  # fmt: skip
_LISTS = ("TrainingJobs", "HyperParameterTuningJobs", "TransformJobs", "Endpoints",
          "EndpointConfigs", "Models", "InferenceComponents", "ModelPackageGroups",
          "ModelPackages", "Pipelines", "ProcessingJobs")  # fmt: skip
# Of these IAM knows no resources, or their names are only known when they are asked.
_ANYWHERE = (
    "ecr:GetAuthorizationToken", "pricing:GetProducts", "sts:GetCallerIdentity",
    "cloudwatch:GetMetricData", "cloudwatch:ListDashboards", "scheduler:ListSchedules",
    "application-autoscaling:DescribeScalableTargets",
    "servicequotas:ListServiceQuotas", "servicequotas:ListAWSDefaultServiceQuotas",
    "ec2:DescribeSubnets", "ec2:DescribeSecurityGroups", "ec2:DescribeVpcEndpoints",
    "ec2:DescribeSpotPriceHistory",
)  # fmt: skip
_SCALE = ("RegisterScalableTarget", "DeregisterScalableTarget", "PutScalingPolicy",
          "PutScheduledAction", "TagResource")  # fmt: skip
_ALARMS = ("DescribeAlarms", "PutMetricAlarm", "DeleteAlarms")
_PUSH = (
    "BatchCheckLayerAvailability", "BatchGetImage", "CompleteLayerUpload", "CreateRepository",
    "DescribeImageScanFindings", "DescribeImages", "GetDownloadUrlForLayer", "InitiateLayerUpload",
    "PutImage", "PutLifecyclePolicy", "UploadLayerPart",
)  # fmt: skip


def scheduling(training_role: Any) -> list[Document]:
    """Of EventBridge Scheduler: starts training jobs, with the training role and no other."""
    return [
        _allow("sagemaker", ("CreateTrainingJob", "AddTags"),
               _sub(f"sagemaker:{_HERE}:training-job/*")),
        _pass([training_role], "sagemaker.amazonaws.com"),
    ]  # fmt: skip


def pipelines(training_role: Any) -> list[Document]:
    """Of pipelines: what their steps start, with the training role and no other.

    SageMaker developer guide, "IAM Access Management" of Pipelines: create and describe each kind
    of job, pass its role; stop it, where the execution is stopped.
    """
    jobs = [f"{verb}{kind}Job" for kind in ("Training", "Processing")
            for verb in ("Create", "Describe", "Stop")]  # fmt: skip
    kinds = ("training-job", "processing-job")
    packages = [_sub(f"sagemaker:{_HERE}:{kind}/*")
                for kind in ("model-package", "model-package-group")]  # fmt: skip
    return [
        _allow("sagemaker", (*jobs, "AddTags"),
               *(_sub(f"sagemaker:{_HERE}:{kind}/*") for kind in kinds)),
        _allow("sagemaker", ("CreateModelPackage", "DescribeModelPackage", "AddTags"), *packages),
        _pass([training_role], "sagemaker.amazonaws.com"),
    ]  # fmt: skip


def _pass(roles: list[Any], service: str) -> Document:
    return {
        "Effect": "Allow",
        "Action": ["iam:PassRole"],
        "Resource": roles,
        "Condition": {"StringEquals": {"iam:PassedToService": service}},
    }


def launching(
    bucket: str, grants: Grants, roles: list[Any], scheduler: Any, repositories: list[str]
) -> Document:
    """The policy document of a person or a CI that launches jobs: all commands but `setup`.

    Args:
        bucket: where data and models are.
        grants: what the roles may do besides.
        roles: ARNs of the roles, which alone may be passed, and to SageMaker alone.
        scheduler: ARN of the role that may be passed to EventBridge Scheduler.
        repositories: of the images.
    """
    look = ("ListBucket", "GetBucketLocation", "GetEncryptionConfiguration",
            "GetBucketPublicAccessBlock")  # fmt: skip
    alarm = _sub(f"cloudwatch:{_HERE}:alarm:*")
    dashboard = _sub("cloudwatch::${AWS::AccountId}:dashboard/*")
    statements = [
        _pass(roles, "sagemaker.amazonaws.com"),
        _pass([scheduler], "scheduler.amazonaws.com"),
        _allow("scheduler", ("CreateSchedule", "UpdateSchedule", "GetSchedule", "DeleteSchedule"),
               _sub(f"scheduler:{_HERE}:schedule/default/*")),
        _allow("iam", ("GetRole", "GetRolePolicy", "ListAttachedRolePolicies"), *roles),
        _allow("sagemaker", (*_RUN, *_HOST), _sub(f"sagemaker:{_HERE}:*")),
        _allow("s3", look, _sub(f"s3:::{bucket}")),
        _allow("s3", ("GetObject", "PutObject", "AbortMultipartUpload"),
               _sub(f"s3:::{bucket}/{grants.prefix}/*")),
        _allow("logs", ("DescribeLogStreams", "GetLogEvents"),
               _sub(f"logs:{_HERE}:log-group:/aws/sagemaker/*")),
        _allow("application-autoscaling", _SCALE,
               _sub(f"application-autoscaling:{_HERE}:scalable-target/*")),
        {
            "Effect": "Allow",
            "Action": ["iam:CreateServiceLinkedRole"],
            "Resource": _sub("iam::${AWS::AccountId}:role/aws-service-role/"
                             "sagemaker.application-autoscaling.amazonaws.com/*"),
            "Condition": {"StringEquals": {
                "iam:AWSServiceName": "sagemaker.application-autoscaling.amazonaws.com"}},
        },
        _allow("cloudwatch", _ALARMS, alarm),
        _allow("cloudwatch", ("PutDashboard", "DeleteDashboards"), dashboard),
        _allow("cloudwatch", ("ListTagsForResource", "TagResource"), alarm, dashboard),
        _allow("ecr", _PUSH, *(_sub(f"ecr:{_HERE}:repository/{name}") for name in repositories)),
        _allow("secretsmanager", ("GetSecretValue",),
               _sub(f"secretsmanager:{_HERE}:secret:{grants.prefix}/*")),
        {"Effect": "Allow", "Action": [*(f"sagemaker:List{kind}" for kind in _LISTS), *_ANYWHERE],
         "Resource": "*"},
    ]  # fmt: skip
    return {"Version": "2012-10-17", "Statement": statements}


def granted(grants: Grants) -> Document | None:
    """The document of what `setup` grants those who launch besides; None where that is nothing.

    It is a policy of its own: one has not room for all.

    Raises:
        UserInputError: more than IAM takes.
    """
    key = _kms(grants.kms_key) if grants.kms_key else []
    models = [_allow("sagemaker-mlflow", _REGISTER, *grants.mlflow)] if grants.mlflow else []
    statements = [*models, *_read((*grants.read, *grants.write)), *key]
    document: Document = {"Version": "2012-10-17", "Statement": statements}
    if (size := _size(document)) > _MOST_CHARACTERS:
        raise UserInputError(
            f"make a policy of about {size} characters, and IAM takes {_MOST_CHARACTERS}",
            field="--read, --write",
            value=f"{len(grants.read) + len(grants.write)} places",
            fix="name fewer: a folder above several, or a whole bucket",
        )
    return document if document["Statement"] else None


def _size(document: Document) -> int:
    """Characters of a policy once CloudFormation has filled it in, in the longest of partitions."""
    text = json.dumps(document, separators=(",", ":"))
    text = re.sub(r'\{"Fn::Sub":("[^"]*")\}', r"\1", text)
    return len(text.replace("${AWS::Partition}", "aws-us-gov"))


def _allow(service: str, actions: Sequence[str], *resources: Any) -> Document:
    on = list(resources) if len(resources) > 1 else resources[0]
    return {"Effect": "Allow", "Action": [f"{service}:{each}" for each in actions], "Resource": on}
