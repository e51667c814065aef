"""What AWS refuses although a request has the right shape: one table, each rule with its source.

Moto and botocore take all of this; a real account answers with a ValidationException, or starts a
job that fails when its image is pulled. `RULES` names for each where it is written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from sm_launch.job import limits, local_storage
from sm_launch.job.hub_models import IDENTITY
from sm_launch.job.instances import TOO_OLD, gpu_instances

OUR_IMAGES = re.compile(r"/sm-(train|serve)([:@]|$)")
"""Their names in a registry; one that is made from ours bears another name."""
Request = Mapping[str, Any]
Refusals = Iterator["Refusal"]

TRAINING, PROCESSING = "CreateTrainingJob", "CreateProcessingJob"
TRANSFORM, MODEL = "CreateTransformJob", "CreateModel"
ENDPOINT_CONFIG, ENDPOINT = "CreateEndpointConfig", "CreateEndpoint"
PACKAGE, PACKAGE_GROUP = "CreateModelPackage", "CreateModelPackageGroup"
PIPELINE = "CreatePipeline"


@dataclass(frozen=True)
class Refusal:
    """One thing that AWS would refuse.

    Attributes:
        path: of the value in the request.
        value: what it is.
        message: why AWS does not take it.
        fix: what to do.
    """

    path: str
    value: Any
    message: str
    fix: str


@dataclass(frozen=True)
class Facts:
    """What a request is held against.

    Attributes:
        region: of the job; None where nobody has said one.
        types: operation to the instance types that the installed service model knows for it.
        partition: that the region is in; None where the installed botocore does not know it.
        ours: whether the image is one of ours, as `make push` names it.
        archive_for: what else is asked for that takes models as archives alone; empty: nothing.
    """

    region: str | None
    types: Mapping[str, frozenset[str]]
    partition: str | None = None
    archive_for: str = ""
    ours: bool = False


@dataclass(frozen=True)
class Rule:
    """A condition that AWS puts on requests of some operations.

    Attributes:
        source: where AWS says so.
        operations: whose requests.
        refusals: what of such a request breaks it.
    """

    source: str
    operations: tuple[str, ...]
    refusals: Callable[[str, Request, Facts], Refusals]


def value_at(request: Any, path: str) -> Any:
    """The value at a dotted path; None where there is none."""
    for part in path.split("."):
        if isinstance(request, list):
            request = request[int(part)] if int(part) < len(request) else None
        else:
            request = request.get(part) if isinstance(request, Mapping) else None
    return request


_ALGORITHM = "AlgorithmSpecification"
_MACHINES = {
    TRAINING: "ResourceConfig",
    PROCESSING: "ProcessingResources.ClusterConfig",
    TRANSFORM: "TransformResources",
}


def machines(operation: str, request: Request) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Where a request names instances: path and structure."""
    if operation == ENDPOINT_CONFIG:
        variants = enumerate(request.get("ProductionVariants", []))
        places = [(f"ProductionVariants.{index}", variant) for index, variant in variants]
    else:
        path = _MACHINES[operation]
        places = [(path, value_at(request, path) or {})]
    for path, resources in places:
        yield path, resources
        for several in ("InstanceGroups", "InstancePreferences", "InstancePools"):
            for index, each in enumerate(resources.get(several, [])):
                yield f"{path}.{several}.{index}", each


def _types(operation: str, request: Request, facts: Facts) -> Refusals:
    for path, machine in machines(operation, request):
        kind = machine.get("InstanceType")
        if kind is None or kind in facts.types[operation]:
            continue
        near = get_close_matches(kind, facts.types[operation], n=3)
        fix = f"choose one that it has, such as {', '.join(near or ['ml.m5.xlarge'])}"
        if not limits.INSTANCE_TYPE.fullmatch(kind):
            yield Refusal(f"{path}.InstanceType", kind, "is no instance type", fix)
        elif any(kind in known for known in facts.types.values()):
            yield Refusal(f"{path}.InstanceType", kind, f"{operation} has no such instances", fix)


def _volume_keys(operation: str, request: Request, _facts: Facts) -> Refusals:
    key = value_at(request, f"{_MACHINES[operation]}.VolumeKmsKeyId")
    for _, machine in machines(operation, request):
        kind = machine.get("InstanceType")
        if key and kind in local_storage.table():
            yield Refusal(
                f"{_MACHINES[operation]}.VolumeKmsKeyId",
                key,
                f"{kind} has local storage, which its own hardware encrypts",
                "leave it out, or choose instances without local storage",
            )


def _volume_sizes(operation: str, request: Request, _facts: Facts) -> Refusals:
    for path, machine in machines(operation, request):
        kind, wanted = machine.get("InstanceType"), machine.get("VolumeSizeInGB")
        has = local_storage.table().get(str(kind))
        if has is not None and wanted is not None and wanted > has:
            yield Refusal(
                f"{path}.VolumeSizeInGB",
                wanted,
                f"the local storage of {kind} is {has} GB, and cannot be more",
                f"leave it out, or choose {_larger(str(kind), wanted)}",
            )


def _larger(kind: str, wanted: int) -> str:
    family = kind.rpartition(".")[0]
    fitting = {
        name: size
        for name, size in local_storage.table().items()
        if name.startswith(f"{family}.") and size >= wanted
    }
    least = min(fitting, key=fitting.__getitem__, default=None)
    return least or "instances without local storage"


def _images(operation: str, request: Request, facts: Facts) -> Refusals:
    """The images of a request, each with what says that it is in a private registry of the VPC."""
    if operation == TRAINING:
        access = "TrainingImageConfig.TrainingRepositoryAccessMode"
        places = {f"{_ALGORITHM}.TrainingImage": f"{_ALGORITHM}.{access}"}
    elif operation == PROCESSING:
        places = {"AppSpecification.ImageUri": ""}
    elif operation == PACKAGE:
        containers = value_at(request, "InferenceSpecification.Containers") or []
        places = {f"InferenceSpecification.Containers.{index}.Image": ""
                  for index in range(len(containers))}  # fmt: skip
    else:
        places = {f"{path}.Image": f"{path}.ImageConfig.RepositoryAccessMode"
                  for path, _ in _containers(request)}  # fmt: skip
    for path, access in places.items():
        yield from _image(request, path, access, facts)


def _image(request: Request, path: str, access: str, facts: Facts) -> Refusals:
    image = value_at(request, path)
    if not image or (access and value_at(request, access) == "Vpc"):
        return
    registry = limits.ECR_IMAGE.fullmatch(image)
    if registry is None:
        fix = "run `make push`, and name the URI that it prints"
        if access:
            fix += f"; an image in a private registry of your VPC needs {access}: Vpc"
        yield Refusal(path, image, "is no image in Amazon ECR", fix)
    elif facts.region and registry["region"] != facts.region:
        yield Refusal(
            path,
            image,
            f"the image is in {registry['region']}, and the job in {facts.region}",
            f"`sm-launch images push --region {facts.region}` sends it there; or set aws.region",
        )


_ROLES = {TRAINING: "RoleArn", PROCESSING: "RoleArn", MODEL: "ExecutionRoleArn",
          ENDPOINT_CONFIG: "ExecutionRoleArn", PIPELINE: "RoleArn"}  # fmt: skip


def _roles(operation: str, request: Request, facts: Facts) -> Refusals:
    role = request.get(_ROLES[operation])
    if role is not None and not limits.ROLE_ARN.fullmatch(role):
        name = role.rpartition("/")[2]
        yield Refusal(
            _ROLES[operation],
            role,
            "is not the ARN of a role",
            f"give its ARN, which `aws iam get-role --role-name {name}` shows",
        )
    elif role is not None and facts.partition and role.split(":")[1] != facts.partition:
        yield Refusal(
            _ROLES[operation],
            role,
            f"the role is of {role.split(':')[1]}, and {facts.region} is in {facts.partition}",
            "name a role of the account that the job runs in, or set aws.region",
        )


_REGIONAL = ("KmsKeyId", "VolumeKmsKeyId", "SuccessTopic", "ErrorTopic")


def _regions(_operation: str, request: Request, facts: Facts) -> Refusals:
    for path, name in members(request):
        arn = limits.ARN.fullmatch(name) if path.rpartition(".")[2] in _REGIONAL else None
        if arn and arn["region"] and facts.region and arn["region"] != facts.region:
            what = "key" if arn["service"] == "kms" else "topic"
            yield Refusal(
                path, name, f"the {what} is in {arn['region']}, and the job in {facts.region}",
                f"name a {what} of {facts.region}, or set aws.region",
            )  # fmt: skip


def members(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Every text of a request, with its path."""
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield from members(each, f"{path}.{key}".lstrip("."))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from members(each, f"{path}.{index}")
    elif isinstance(value, str):
        yield path, value


def _tags(_operation: str, request: Request, _facts: Facts) -> Refusals:
    for index, tag in enumerate(request.get("Tags", [])):
        if str(tag.get("Key", "")).lower().startswith(limits.RESERVED_TAG_PREFIX):
            yield Refusal(
                f"Tags.{index}.Key", tag["Key"], "tags that begin with aws: are AWS's own",
                "give it another name",
            )  # fmt: skip


def _tags_of_group(_operation: str, request: Request, _facts: Facts) -> Refusals:
    if request.get("Tags") and request.get("ModelPackageGroupName"):
        yield Refusal(
            "Tags", request["Tags"], "a version of a group has the tags of its group",
            "leave it out: aws.tags are the group's",
        )  # fmt: skip


_FROM_THE_HUB = ("model_name_or_path", "teacher_model_name_or_path", "dataset_name")


def _training_without_hub(operation: str, request: Request, _facts: Facts) -> Refusals:
    if not request.get("EnableNetworkIsolation"):
        return
    channels = {channel["ChannelName"] for channel in request.get("InputDataConfig", [])}
    brought = {"model_name_or_path": "model", "dataset_name": "train"}
    for key in _FROM_THE_HUB:
        named = str((request.get("HyperParameters") or {}).get(key) or "").strip('"')
        is_path = named.startswith(("/", ".", "~", "channel:"))
        if named and not is_path and brought.get(key) not in channels:
            yield Refusal(
                "EnableNetworkIsolation", True, f"the container cannot download {named} ({key})",
                "set it to false, or give a directory or an s3:// URI, which becomes a channel",
            )  # fmt: skip


def _model_without_hub(_operation: str, request: Request, _facts: Facts) -> Refusals:
    named = str((value_at(request, "PrimaryContainer.Environment") or {}).get(IDENTITY, ""))
    if request.get("EnableNetworkIsolation") and named and not named.startswith("/"):
        yield Refusal(
            "EnableNetworkIsolation", True, f"the container cannot download {named}",
            "set it to false, or give a directory or an s3:// URI in endpoint.model",
        )  # fmt: skip


_STEPS = {
    "linear": "BlueGreenUpdatePolicy.TrafficRoutingConfiguration.LinearStepSize",
    "canary": "BlueGreenUpdatePolicy.TrafficRoutingConfiguration.CanarySize",
    "rolling": "RollingUpdatePolicy.MaximumBatchSize",
}


def _steps(_operation: str, request: Request, _facts: Facts) -> Refusals:
    for strategy, place in _STEPS.items():
        step = value_at(request, f"DeploymentConfig.{place}") or {}
        low, high = limits.STEP_PERCENT[strategy]
        share = step.get("Value", low)
        if step.get("Type") == "CAPACITY_PERCENT" and not low <= share <= high:
            yield Refusal(
                f"DeploymentConfig.{place}.Value", share,
                f"a {strategy} step is between {low} and {high} per cent of the instances",
                f"choose {min(max(share, low), high)}",
            )  # fmt: skip


_NAMED = {TRAINING: "TrainingJobName", PROCESSING: "ProcessingJobName", MODEL: "ModelName",
          TRANSFORM: "TransformJobName", ENDPOINT: "EndpointName",
          ENDPOINT_CONFIG: "EndpointConfigName",
          PACKAGE_GROUP: "ModelPackageGroupName", PIPELINE: "PipelineName"}  # fmt: skip


def _names(operation: str, request: Request, _facts: Facts) -> Refusals:
    named = {_NAMED[operation]: request.get(_NAMED[operation])}
    for index, variant in enumerate(request.get("ProductionVariants", [])):
        named[f"ProductionVariants.{index}.VariantName"] = variant.get("VariantName")
    for path, name in named.items():
        try:
            if name is not None:
                limits.require_name(name)
        except ValueError as error:
            yield Refusal(path, name, str(error), "choose another name")


_RESOURCES, _CLUSTER = _MACHINES[TRAINING], _MACHINES[PROCESSING]
_EXCLUSIVE: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    TRAINING: {
        f"{_RESOURCES}.InstancePreferences": (
            f"{_RESOURCES}.InstanceType", f"{_RESOURCES}.InstanceGroups",
            f"{_RESOURCES}.InstancePlacementConfig", "EnableManagedSpotTraining"),
        f"{_RESOURCES}.InstanceGroups": (
            f"{_RESOURCES}.InstanceType", f"{_RESOURCES}.InstanceCount"),
        f"{_ALGORITHM}.AlgorithmName": (f"{_ALGORITHM}.TrainingImage",),
    },
    PROCESSING: {f"{_CLUSTER}.InstancePreferences": (f"{_CLUSTER}.InstanceType",)},
    ENDPOINT_CONFIG: {
        "CrossRegionTrafficConfig": (
            "AsyncInferenceConfig", "ProductionVariants.0.ServerlessConfig"),
        **{f"ProductionVariants.{index}.InstancePools": (
            f"ProductionVariants.{index}.InstanceType",
            f"ProductionVariants.{index}.ServerlessConfig") for index in range(10)},
    },
}  # fmt: skip
"""Fields of a request, and which others cannot be beside them."""


def _exclusive(operation: str, request: Request, _facts: Facts) -> Refusals:
    for path, others in _EXCLUSIVE[operation].items():
        value = value_at(request, path)
        beside = [each for each in others if value and value_at(request, each)]
        if beside:
            yield Refusal(
                path, value, f"cannot be beside {' and '.join(beside)}",
                f"leave it out, or take {beside[0]} out by setting it to null there",
            )  # fmt: skip


def _spot(_operation: str, request: Request, _facts: Facts) -> Refusals:
    condition = request.get("StoppingCondition", {})
    longest, wait = condition.get("MaxRuntimeInSeconds"), condition.get("MaxWaitTimeInSeconds")
    if request.get("EnableManagedSpotTraining") and wait is None:
        yield Refusal(
            "EnableManagedSpotTraining", True, "needs StoppingCondition.MaxWaitTimeInSeconds",
            "set training.spot: true, which gives both",
        )  # fmt: skip
    if wait is not None and longest is not None and wait < longest:
        yield Refusal(
            "StoppingCondition.MaxWaitTimeInSeconds", wait,
            f"is less than MaxRuntimeInSeconds, {longest}", "set it to that, or to more",
        )  # fmt: skip


def _buffers(_operation: str, request: Request, _facts: Facts) -> Refusals:
    size = request.get("MaxPayloadInMB", 0) * (request.get("MaxConcurrentTransforms") or 1)
    if size > limits.TRANSFORM_BUFFER_MB:
        yield Refusal(
            "MaxPayloadInMB", request["MaxPayloadInMB"],
            f"times MaxConcurrentTransforms is {size}, and {limits.TRANSFORM_BUFFER_MB} at most",
            "lower one of both",
        )  # fmt: skip


def _containers(request: Request) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if "PrimaryContainer" in request:
        yield "PrimaryContainer", request["PrimaryContainer"]
    for index, container in enumerate(request.get("Containers", [])):
        yield f"Containers.{index}", container


def _environments(_operation: str, request: Request, _facts: Facts) -> Refusals:
    sizes = {
        path: sum(len(f"{key}{value}".encode()) for key, value in variables.items())
        for path, container in _containers(request)
        if (variables := container.get("Environment"))
    }
    if sum(sizes.values()) > limits.MODEL_ENVIRONMENT_BYTES:
        path = max(sizes, key=sizes.__getitem__)
        yield Refusal(
            f"{path}.Environment", f"{sum(sizes.values())} bytes",
            f"names and values are {limits.MODEL_ENVIRONMENT_BYTES} bytes at most, all together",
            "put what is long into a file of the model",
        )  # fmt: skip


def _archives(_operation: str, request: Request, facts: Facts) -> Refusals:
    for path, container in _containers(request):
        uri = value_at(container, "ModelDataSource.S3DataSource.S3Uri")
        if facts.archive_for and uri:
            yield Refusal(
                f"{path}.ModelDataSource", uri, f"{facts.archive_for} takes a model.tar.gz alone",
                "pack its files into one; a training leaves one with training.compress_model: true",
            )  # fmt: skip


def _places(_operation: str, request: Request, _facts: Facts) -> Refusals:
    for path, text in members(request):
        if text.startswith("file://"):
            yield Refusal(path, text, "is on this machine, and SageMaker has S3 alone",
                          "name an s3:// URI")  # fmt: skip
        if text.startswith("s3://") and "?versionid=" in text.lower():
            yield Refusal(
                path, text, "a version is no part of a key, and SageMaker reads the newest",
                "copy that version to a key of its own, and name that",
            )  # fmt: skip


def _file_systems(_operation: str, request: Request, _facts: Facts) -> Refusals:
    for index, channel in enumerate(request.get("InputDataConfig", [])):
        place = "DataSource.FileSystemDataSource"
        if value_at(channel, place) and not request.get("VpcConfig"):
            yield Refusal(
                f"InputDataConfig.{index}.{place}", value_at(channel, f"{place}.FileSystemId"),
                "is reached from inside its VPC alone", "set training.network, to subnets of it",
            )  # fmt: skip


_ACCELERATED = re.compile(r"ml\.(?P<family>trn|inf|dl)\d")
_ARM = re.compile(r"ml\.([a-z]+\d+g[a-z]*\.|p6e-gb)")


def _machines_of_ours(operation: str, request: Request, facts: Facts) -> Refusals:
    """Instances that our images do not run on, or on whose processors alone."""
    if not facts.ours:
        return
    for path, machine in machines(operation, request):
        kind = str(machine.get("InstanceType"))
        gpu = gpu_instances().get(kind)
        why = (
            "has no NVIDIA GPUs, and what it has is left idle" if _ACCELERATED.match(kind)
            else "has Arm processors, which the image is not built for" if _ARM.match(kind)
            else f"has {gpu.gpu} GPUs, too old for CUDA 13" if gpu and gpu.gpu in TOO_OLD
            else ""
        )  # fmt: skip
        if why:
            yield Refusal(
                f"{path}.InstanceType", kind, why,
                "choose GPU instances of g4dn or newer, or CPU instances of Intel or AMD; or name "
                "an image of your own",
            )  # fmt: skip


def _groups_of_channels(_operation: str, request: Request, _facts: Facts) -> Refusals:
    place = "DataSource.S3DataSource.InstanceGroupNames"
    channels = request.get("InputDataConfig", [])
    without = [index for index, each in enumerate(channels) if not value_at(each, place)]
    if 0 < len(without) < len(channels):
        path = f"InputDataConfig.{without[0]}.{place}"
        yield Refusal(
            path, None, f"channel {channels[without[0]]['ChannelName']} names no instance groups, "
            "and others do", "name them for each channel, or for none",
        )  # fmt: skip


_OF_MACHINES = (TRAINING, PROCESSING, TRANSFORM)
_ALL = (*_OF_MACHINES, MODEL, ENDPOINT_CONFIG, ENDPOINT, PACKAGE_GROUP, PIPELINE)

RULES = (
    Rule("Service model: InstanceType of ResourceConfig, ClusterConfig, TransformResources and "
         "ProductionVariant, each with an enumeration of its own",
         (*_OF_MACHINES, ENDPOINT_CONFIG), _types),
    Rule("Service model: VolumeKmsKeyId, \"You can't request a VolumeKmsKeyId when using an "
         "instance type with local storage\"", _OF_MACHINES, _volume_keys),
    Rule("Service model: VolumeSizeInGB, \"You can't request a VolumeSizeInGB greater than the "
         "total size of the local instance storage\"", (TRAINING, PROCESSING), _volume_sizes),
    Rule("Developer guide, \"Adapting your own training container\" and \"Use a private Docker "
         "registry\": the image is in Amazon ECR of the job's region, or in a registry of its VPC",
         (TRAINING, PROCESSING, MODEL, PACKAGE), _images),
    Rule("Service model: RoleArn and ExecutionRoleArn, their pattern; General reference, \"ARNs\": "
         "a partition's resources are its own", tuple(_ROLES), _roles),
    Rule("Developer guide of AWS KMS, \"Multi-Region keys\": a key is used in its region; of SNS, "
         "\"Cross-Region delivery\": a topic likewise", (*_OF_MACHINES, ENDPOINT_CONFIG), _regions),
    Rule("Service model: InstancePreferences, AlgorithmName and CrossRegionTrafficConfig, "
         "\"mutually exclusive\"; Developer guide, \"Deploy to multiple instance types with "
         "instance pools\", \"you replace the InstanceType parameter\"; AWS's own answer, "
         "\"InstanceType or InstanceCount cannot be specified with InstanceGroups\" "
         "(sagemaker-python-sdk 5555)",
         tuple(_EXCLUSIVE), _exclusive),
    Rule("Service model: MaxWaitTimeInSeconds, \"must be equal to or greater than "
         "MaxRuntimeInSeconds\"; Developer guide, \"Managed Spot Training\"", (TRAINING,), _spot),
    Rule("Service model: MaxPayloadInMB, \"(MaxConcurrentTransforms * MaxPayloadInMB) also cannot "
         "exceed 100 MB\"", (TRANSFORM,), _buffers),
    Rule("Service model: Environment of ContainerDefinition, \"all keys and values in the map, "
         "combined, is 32 KB\"", (MODEL,), _environments),
    Rule("Service model: ModelDataSource of ContainerDefinition, \"Currently you cannot use "
         "ModelDataSource in conjunction with SageMaker batch transform, SageMaker serverless "
         "endpoints\"", (MODEL,), _archives),
    Rule("Service model: S3Uri of S3DataSource, \"identifies either a key name prefix or a "
         "manifest\"", (TRAINING, PROCESSING, TRANSFORM, MODEL, ENDPOINT_CONFIG), _places),
    Rule("Developer guide, \"Give SageMaker AI training jobs access to resources in your Amazon "
         "VPC\": file systems are reached from inside it", (TRAINING,), _file_systems),
    Rule("Service model: InstanceGroupNames of S3DataSource; AWS's own answer, \"Some channels "
         "have assigned instance groups [...] while others not\" (sagemaker-python-sdk 5225)",
         (TRAINING,), _groups_of_channels),
    Rule("EC2 user guide, \"Instance type naming conventions\" (g: Graviton; trn, inf: Neuron, "
         "dl: Gaudi); CUDA 13.0 release notes, \"Deprecated architectures\"; docs/images.md: what "
         "our images are built for", (*_OF_MACHINES, ENDPOINT_CONFIG), _machines_of_ours),
    Rule("General reference, \"Tag naming limits and requirements\": the prefix aws: is reserved",
         _ALL, _tags),
    Rule("Service model: Tags of CreateModelPackage, \"If you supply ModelPackageGroupName [...] "
         "you cannot supply a tag argument\"", (PACKAGE,), _tags_of_group),
    Rule("Service model: EnableNetworkIsolation, \"No inbound or outbound network calls can be "
         "made\"", (TRAINING,), _training_without_hub),
    Rule("Service model: EnableNetworkIsolation of CreateModel", (MODEL,), _model_without_hub),
    Rule("Service model: TrafficRoutingConfig and RollingUpdatePolicy, the sizes of their steps",
         (ENDPOINT,), _steps),
    Rule("Service model: VariantName, EndpointName and the jobs' names, their pattern",
         _ALL, _names),
)  # fmt: skip
"""Every condition that we know of, with its source."""

KEYS = {
    f"{TRAINING}.ResourceConfig.InstanceType": "training.instances.type",
    f"{TRAINING}.ResourceConfig.VolumeSizeInGB": "training.instances.volume_size_gb",
    f"{TRAINING}.AlgorithmSpecification.TrainingImage": "training.image",
    f"{TRAINING}.RoleArn": "aws.training_role",
    f"{TRAINING}.EnableNetworkIsolation": "training.network.isolation",
    f"{PROCESSING}.{_MACHINES[PROCESSING]}.InstanceType": "data.processing.instance_type",
    f"{PROCESSING}.{_MACHINES[PROCESSING]}.VolumeSizeInGB": "data.processing.volume_size_gb",
    f"{PROCESSING}.AppSpecification.ImageUri": "training.image",
    f"{PROCESSING}.RoleArn": "aws.training_role",
    f"{TRANSFORM}.TransformResources.InstanceType": "transform.instance_type",
    f"{MODEL}.PrimaryContainer.Image": "endpoint.image",
    f"{MODEL}.ExecutionRoleArn": "aws.hosting_role",
    f"{MODEL}.EnableNetworkIsolation": "endpoint.network.isolation",
    f"{MODEL}.PrimaryContainer.Environment": "endpoint.environment",
    f"{MODEL}.PrimaryContainer.ModelDataSource": "endpoint.model or --model-data",
    f"{TRAINING}.OutputDataConfig.KmsKeyId": "aws.kms_key",
    f"{TRAINING}.ResourceConfig.VolumeKmsKeyId": "aws.kms_key",
    f"{PROCESSING}.ProcessingOutputConfig.KmsKeyId": "aws.kms_key",
    f"{PROCESSING}.{_MACHINES[PROCESSING]}.VolumeKmsKeyId": "aws.kms_key",
    f"{TRANSFORM}.TransformOutput.KmsKeyId": "aws.kms_key",
    f"{TRANSFORM}.TransformResources.VolumeKmsKeyId": "aws.kms_key",
    f"{ENDPOINT_CONFIG}.KmsKeyId": "aws.kms_key",
    f"{ENDPOINT_CONFIG}.DataCaptureConfig.KmsKeyId": "aws.kms_key",
    f"{ENDPOINT_CONFIG}.AsyncInferenceConfig.OutputConfig.KmsKeyId": "aws.kms_key",
    f"{ENDPOINT_CONFIG}.AsyncInferenceConfig.OutputConfig.NotificationConfig.SuccessTopic":
        "endpoint.asynchronous.success_topic",
    f"{ENDPOINT_CONFIG}.AsyncInferenceConfig.OutputConfig.NotificationConfig.ErrorTopic":
        "endpoint.asynchronous.error_topic",
    f"{TRAINING}.Environment": "training.environment",
    f"{TRAINING}.HyperParameters": "training.hyperparameters",
    f"{TRAINING}.VpcConfig.Subnets": "training.network.subnets",
    f"{TRAINING}.VpcConfig.SecurityGroupIds": "training.network.security_groups",
    f"{MODEL}.VpcConfig.Subnets": "endpoint.network.subnets",
    f"{MODEL}.VpcConfig.SecurityGroupIds": "endpoint.network.security_groups",
    f"{PROCESSING}.NetworkConfig.VpcConfig.Subnets": "training.network.subnets",
    f"{PROCESSING}.NetworkConfig.VpcConfig.SecurityGroupIds": "training.network.security_groups",
    f"{TRAINING}.StoppingCondition.MaxWaitTimeInSeconds": "training.max_wait_seconds",
    **{f"{operation}.Tags": "aws.tags" for operation in _ALL},
    f"{TRAINING}.CheckpointConfig.S3Uri": "training.checkpoints",
    f"{TRAINING}.OutputDataConfig.S3OutputPath": "aws.bucket",
    f"{MODEL}.PrimaryContainer.ModelDataUrl": "endpoint.model or --model-data",
    f"{MODEL}.PrimaryContainer.ModelDataSource.S3DataSource.S3Uri": "endpoint.model or "
        "--model-data",
    f"{TRANSFORM}.TransformInput.DataSource.S3DataSource.S3Uri": "INPUT",
    f"{TRANSFORM}.TransformOutput.S3OutputPath": "--output",
    f"{ENDPOINT_CONFIG}.DataCaptureConfig.DestinationS3Uri": "endpoint.data_capture.location",
    f"{ENDPOINT_CONFIG}.AsyncInferenceConfig.OutputConfig.S3OutputPath":
        "endpoint.asynchronous.output",
    f"{ENDPOINT_CONFIG}.AsyncInferenceConfig.OutputConfig.S3FailurePath":
        "endpoint.asynchronous.output",
    f"{PACKAGE}.InferenceSpecification.Containers.0.Image": "endpoint.image",
    f"{PACKAGE_GROUP}.ModelPackageGroupName": "registry.group",
    f"{PIPELINE}.RoleArn": "aws.pipeline_role",
    f"{ENDPOINT_CONFIG}.ProductionVariants.0.InstanceType": "endpoint.instances.type",
    f"{ENDPOINT_CONFIG}.ProductionVariants.0.InstancePools": "endpoint.fallback",
    f"{ENDPOINT_CONFIG}.ProductionVariants.0.InstancePools.0.InstanceType":
        "endpoint.instances.type",
    **{f"{ENDPOINT_CONFIG}.ProductionVariants.0.InstancePools.{index}.InstanceType":
       f"endpoint.fallback.{index - 1}.type" for index in range(1, 5)},
    f"{ENDPOINT_CONFIG}.ExecutionRoleArn": "aws.hosting_role",
    f"{ENDPOINT}.EndpointName": "endpoint.name",
    **{f"{ENDPOINT}.DeploymentConfig.{step}.Value": "endpoint.update.step_percent"
       for step in _STEPS.values()},
}  # fmt: skip
"""Where job.yaml says what a request says."""


def broken(operation: str, request: Request, facts: Facts) -> list[Refusal]:
    """What of a request AWS would refuse."""
    rules = [rule for rule in RULES if operation in rule.operations]
    return [refusal for rule in rules for refusal in rule.refusals(operation, request, facts)]
