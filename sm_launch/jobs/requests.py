"""The training job's request, as pure functions of job.yaml: the same dict for every target.

Each returns keyword arguments of the boto3 SageMaker client's method of that name. Locations are
URIs already (`s3://` or, for local targets, `file://`): `sm_launch.target.staging` makes them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from sm_launch.job import limits, local_storage, tracking
from sm_launch.job.config import JobConfig
from sm_launch.job.hyperparameter_names import PROGRAM
from sm_launch.job.naming import LOCAL_ROLE, LOCAL_TRAINING_IMAGE, Request, tags, vpc_config
from sm_launch.job.passthrough import merged
from sm_launch.job.training import HyperparameterValue, Instances

TENSORBOARD_FOLDER = "/opt/ml/output/data/tensorboard"
"""Where the training container writes TensorBoard's files."""


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


def encode_hyperparameters(values: dict[str, HyperparameterValue]) -> dict[str, str]:
    """The string map that SageMaker takes: strings as they are, everything else as JSON."""
    return {
        key: value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
        for key, value in values.items()
    }


def training_hyperparameters(config: JobConfig, model: str | None) -> dict[str, str]:
    """What the training container will find in hyperparameters.json."""
    values: dict[str, HyperparameterValue] = {}
    if PROGRAM not in config.training.hyperparameters:  # a script gets them as its arguments
        values["method"] = config.training.method
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
    if environment := tracking.environment(config, inputs.output):
        request["Environment"] = environment
    if tensorboard := _tensorboard(config, inputs.output):
        request["TensorBoardOutputConfig"] = tensorboard
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
        request["VpcConfig"] = vpc_config(training.network)
    return merged(request, config.sagemaker.training)


def _tensorboard(config: JobConfig, output: str) -> Request | None:
    """Where SageMaker copies TensorBoard's files to while they are written, behind the job's name.

    None where report_to does not name TensorBoard, or the job runs on this machine.
    """
    named = tracking.trackers(config.training.hyperparameters)
    if not output.startswith("s3://") or not named & {"tensorboard", "all"}:
        return None
    folder = config.training.environment.get("TENSORBOARD_LOGGING_DIR", TENSORBOARD_FOLDER)
    return {"S3OutputPath": output, "LocalPath": folder}


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
        "VolumeSizeInGB": local_storage.volume_size(instances.type, instances),
    }
    if instances.keep_alive_seconds:
        resources["KeepAlivePeriodInSeconds"] = instances.keep_alive_seconds
    if config.aws.kms_key and instances.type not in local_storage.table():
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
