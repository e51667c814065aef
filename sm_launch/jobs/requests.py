"""The SageMaker requests, as pure functions of job.yaml: the same dict for every target.

Each returns keyword arguments of the boto3 SageMaker client's method of that name. Locations are
URIs already (`s3://` or, for local targets, `file://`): `sm_launch.target.staging` makes them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sm_launch.hosting import variants
from sm_launch.hosting.variants import HostingInputs
from sm_launch.job import hub_models, limits
from sm_launch.job.config import HyperparameterValue, Instances, JobConfig, Network

Request = dict[str, Any]

# What local targets name where SageMaker wants an image or a role: neither is ever contacted.
LOCAL_TRAINING_IMAGE = "sm-train:process"
LOCAL_SERVING_IMAGE = "sm-serve:process"
LOCAL_ROLE = "arn:aws:iam::000000000000:role/sm-launch-local"


@dataclass(frozen=True)
class TrainingInputs:
    """Everything a training request needs that is not in job.yaml as such.

    Attributes:
        channels: channel name to URI.
        output: URI under which `<job>/output/model.tar.gz` will be written.
        checkpoints: URI of the checkpoint directory, or None.
        model: Hub id of the base model; None where the `model` channel brings it.
        metric_definitions: the containers' `Name`/`Regex` pairs.
        image: URI of the training image.
        role: ARN of the execution role.
    """

    channels: dict[str, str]
    output: str
    checkpoints: str | None
    model: str | None
    metric_definitions: list[dict[str, str]]
    image: str = LOCAL_TRAINING_IMAGE
    role: str = LOCAL_ROLE


def unique_name(base: str, now: datetime | None = None, *, length: int = limits.NAME_LENGTH) -> str:
    """`base` with the time behind it, within the characters that SageMaker allows."""
    now = now or datetime.now(UTC)
    stamp = now.strftime("%Y%m%d-%H%M%S-") + f"{now.microsecond // 1000:03d}"
    return f"{base[: length - len(stamp) - 1].rstrip('-')}-{stamp}"


def encode_hyperparameters(values: dict[str, HyperparameterValue]) -> dict[str, str]:
    """The string map that SageMaker takes: strings as they are, everything else as JSON."""
    return {
        key: value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
        for key, value in values.items()
    }


def training_hyperparameters(config: JobConfig, model: str | None) -> dict[str, str]:
    """What the training container will find in hyperparameters.json."""
    values: dict[str, HyperparameterValue] = {"method": config.training.method}
    if model is not None:
        values["model_name_or_path"] = model
    return encode_hyperparameters({**values, **config.training.hyperparameters})


def create_training_job(config: JobConfig, name: str, inputs: TrainingInputs) -> Request:
    """CreateTrainingJob."""
    training = config.training
    request: Request = {
        "TrainingJobName": name,
        "HyperParameters": training_hyperparameters(config, inputs.model),
        "AlgorithmSpecification": {
            "TrainingImage": inputs.image,
            "TrainingInputMode": training.input_mode,
            "MetricDefinitions": inputs.metric_definitions,
        },
        "RoleArn": inputs.role,
        "OutputDataConfig": _output(config, inputs.output),
        "ResourceConfig": _training_resources(config, training.instances),
        "StoppingCondition": _stopping_condition(config),
        "Tags": tags(config),
    }
    if inputs.channels:  # none where the container loads `dataset_name`; an empty list is refused
        request["InputDataConfig"] = [
            _channel(channel, uri, training.input_mode)
            for channel, uri in sorted(inputs.channels.items())
        ]
    if training.environment:
        request["Environment"] = dict(training.environment)
    if inputs.checkpoints:
        request["CheckpointConfig"] = {"S3Uri": inputs.checkpoints}
    if training.spot:
        request["EnableManagedSpotTraining"] = True
    if training.retries:
        request["RetryStrategy"] = {"MaximumRetryAttempts": training.retries}
    if training.network.isolation:
        request["EnableNetworkIsolation"] = True
    if training.network.encrypt_between_instances:
        request["EnableInterContainerTrafficEncryption"] = True
    if training.network.subnets:
        request["VpcConfig"] = _vpc(training.network)
    return request


def create_model(
    config: JobConfig,
    name: str,
    *,
    model_data: str,
    image: str,
    role: str = LOCAL_ROLE,
    served_name: str = "",
) -> Request:
    """CreateModel: a model.tar.gz, a prefix (with a trailing slash) of uncompressed files, or
    hf://OWNER/NAME[@REVISION], which the container downloads.

    `served_name` is what clients of OpenAI's routes call the model: the endpoint's name.

    Raises:
        UserInputError: a model of the Hub in network isolation, or named in the environment.
    """
    named = {"SM_SERVE_MODEL_NAME": served_name} if served_name else {}
    # A container cannot see that it has no network.
    isolated = {"SM_SERVE_NETWORK_ISOLATION": "true"} if config.endpoint.network.isolation else {}
    fetched = hub_models.environment_of(model_data, config.endpoint)
    environment = {**named, **isolated, **fetched, **config.endpoint.environment}
    container: Request = {"Image": image, "Environment": environment}
    if model_data.endswith(".tar.gz"):
        container["ModelDataUrl"] = model_data
    elif not fetched:
        source = {"S3Uri": model_data, "S3DataType": "S3Prefix", "CompressionType": "None"}
        container["ModelDataSource"] = {"S3DataSource": source}
    request: Request = {
        "ModelName": name,
        "PrimaryContainer": container,
        "ExecutionRoleArn": role,
        "Tags": tags(config),
    }
    # With components the network is the endpoint's own.
    return request if config.endpoint.components else {**request, **_hosting_network(config)}


def _hosting_network(config: JobConfig) -> Request:
    network, request = config.endpoint.network, Request()
    if network.isolation:
        request["EnableNetworkIsolation"] = True
    if network.subnets:
        request["VpcConfig"] = _vpc(network)
    return request


def create_endpoint_config(
    config: JobConfig, name: str, model: str, *, inputs: HostingInputs | None = None
) -> Request:
    """CreateEndpointConfig; the main variant is `AllTraffic`, as the SDK names it."""
    endpoint, inputs = config.endpoint, inputs or HostingInputs()
    request: Request = {
        "EndpointConfigName": name,
        "ProductionVariants": variants.variants(endpoint, model, inputs),
        "Tags": tags(config),
    }
    if endpoint.components:
        request |= {"ExecutionRoleArn": inputs.role or LOCAL_ROLE, **_hosting_network(config)}
    if endpoint.asynchronous:
        request["AsyncInferenceConfig"] = variants.asynchronous(
            endpoint.asynchronous, f"{inputs.output}/async/{name}", config.aws.kms_key
        )
    if endpoint.data_capture:
        request["DataCaptureConfig"] = variants.data_capture(
            endpoint.data_capture, f"{inputs.output}/capture", config.aws.kms_key
        )
    if config.aws.kms_key:
        request["KmsKeyId"] = config.aws.kms_key
    return request


def create_endpoint(config: JobConfig, name: str, endpoint_config: str) -> Request:
    """CreateEndpoint."""
    request: Request = {"EndpointName": name, "EndpointConfigName": endpoint_config}
    if config.endpoint.update and not config.endpoint.components:
        request["DeploymentConfig"] = variants.deployment(config.endpoint.update)
    return {**request, "Tags": tags(config)}


def create_transform_job(
    config: JobConfig, name: str, model: str, inputs: variants.TransformInputs
) -> Request:
    """CreateTransformJob."""
    request = variants.transform_job(config, name, model, inputs)
    return {**request, "Tags": tags(config)}


def tags(config: JobConfig) -> list[dict[str, str]]:
    """The user's tags and the one by which we find our own things again."""
    pairs = {**config.aws.tags, limits.TAG_KEY: config.name}
    return [{"Key": key, "Value": value} for key, value in pairs.items()]


def _channel(name: str, uri: str, input_mode: str) -> Request:
    source = {"S3DataType": "S3Prefix", "S3Uri": uri, "S3DataDistributionType": "FullyReplicated"}
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}, "InputMode": input_mode}


def _output(config: JobConfig, uri: str) -> Request:
    output: Request = {"S3OutputPath": uri}
    if config.aws.kms_key:
        output["KmsKeyId"] = config.aws.kms_key
    if not config.training.compress_model:
        output["CompressionType"] = "NONE"
    return output


def _training_resources(config: JobConfig, instances: Instances) -> Request:
    resources: Request = {
        "InstanceType": instances.type,
        "InstanceCount": instances.count,
        "VolumeSizeInGB": instances.volume_size_gb,
    }
    if instances.keep_alive_seconds:
        resources["KeepAlivePeriodInSeconds"] = instances.keep_alive_seconds
    if config.aws.kms_key:
        resources["VolumeKmsKeyId"] = config.aws.kms_key
    return resources


def _stopping_condition(config: JobConfig) -> Request:
    training = config.training
    condition = {"MaxRuntimeInSeconds": training.max_runtime_seconds}
    if training.spot:
        wait = training.max_wait_seconds or min(
            2 * training.max_runtime_seconds, limits.HARD_MAX_RUNTIME_SECONDS
        )
        condition["MaxWaitTimeInSeconds"] = wait
    return condition


def _vpc(network: Network) -> Request:
    return {"Subnets": network.subnets, "SecurityGroupIds": network.security_groups}
