"""The parts of hosting requests that SageMaker alone can do; `requests` joins them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from sm_launch.job import limits, local_storage
from sm_launch.job.config import Endpoint, JobConfig
from sm_launch.job.hosting import Asynchronous, DataCapture, Update, Variant
from sm_launch.job.instances import has_gpu

Request = dict[str, Any]

MAIN_VARIANT = limits.MAIN_VARIANT
# The service model's own table: this host has driver 580 and CUDA 13.0, which the GPU image needs.
CUDA_13_AMI = "al2023-ami-sagemaker-inference-gpu-4-1"
# Loading is bound by the download from S3: a slow instance gets about 100 MB/s, unpacking halves
# it. Imports and warming up come on top.
STARTUP_BASE_SECONDS = 300
STARTUP_BYTES_PER_SECOND = 50e6


@dataclass(frozen=True)
class HostingInputs:
    """What a deployment needs that is not in job.yaml as such.

    Attributes:
        output: s3:// URI below which answers and captured data go.
        model_bytes: size of the model's artefact; None where nobody knows.
        variant_models: name of the SageMaker model of every further variant.
        role: ARN of the execution role; an endpoint of components has it itself.
    """

    output: str = ""
    model_bytes: int | None = None
    variant_models: tuple[str, ...] = ()
    role: str = ""


@dataclass(frozen=True)
class TransformInputs:
    """What a transform job needs that is not in job.yaml as such.

    Attributes:
        source: URI of the file or directory that is read.
        output: URI of the directory that is written.
        content_type: of the source's files.
    """

    source: str
    output: str
    content_type: str


def startup_timeout(model_bytes: int | None) -> int:
    """Seconds that a model of this size may take until it answers, within SageMaker's limits."""
    loading = (model_bytes or 0) / STARTUP_BYTES_PER_SECOND
    seconds = max(2 * STARTUP_BASE_SECONDS, STARTUP_BASE_SECONDS + math.ceil(loading))
    low, high = limits.STARTUP_TIMEOUT_SECONDS
    return min(max(seconds, low), high)


def variants(endpoint: Endpoint, model: str, inputs: HostingInputs) -> list[Request]:
    """ProductionVariants: the main one, and those of `endpoint.variants`."""
    if endpoint.components:
        return [_for_components(endpoint, inputs)]
    main = {
        "VariantName": MAIN_VARIANT,
        "ModelName": model,
        "InitialVariantWeight": endpoint.weight,
    }
    if endpoint.serverless:
        return [{**main, "ServerlessConfig": _serverless(endpoint)}]
    first = {**main, **_on_instances(endpoint, None, inputs.model_bytes)}
    return [first, *_further(endpoint, inputs)]


def _for_components(endpoint: Endpoint, inputs: HostingInputs) -> Request:
    """A variant of instances alone, as many as the copies need: one a copy at most."""
    scaling = endpoint.autoscaling
    least = min([scaling.min, *(item.min for item in scaling.schedule)]) if scaling else 1
    most = max([scaling.max, *(item.max for item in scaling.schedule)]) if scaling else 1
    return {
        "VariantName": MAIN_VARIANT,
        **_on_instances(endpoint, None, inputs.model_bytes),
        "ManagedInstanceScaling": {
            "Status": "ENABLED",
            "MinInstanceCount": min(least, endpoint.instances.count),
            "MaxInstanceCount": max(most, endpoint.instances.count),
        },
        "RoutingConfig": {"RoutingStrategy": "LEAST_OUTSTANDING_REQUESTS"},
    }


def _further(endpoint: Endpoint, inputs: HostingInputs) -> list[Request]:
    pairs = zip(endpoint.variants, inputs.variant_models, strict=True)
    return [
        {
            "VariantName": variant.name,
            "ModelName": model,
            "InitialVariantWeight": variant.weight,
            **_on_instances(endpoint, variant, inputs.model_bytes),
        }
        for variant, model in pairs
    ]


def _on_instances(endpoint: Endpoint, variant: Variant | None, model_bytes: int | None) -> Request:
    instances = endpoint.instances
    kind = (variant.instance_type if variant else None) or instances.type
    timeout = endpoint.startup_timeout_seconds or startup_timeout(model_bytes)
    request: Request = {
        "InitialInstanceCount": variant.instance_count if variant else instances.count,
        **_machine(endpoint, kind),
        "ContainerStartupHealthCheckTimeoutInSeconds": timeout,
        "ModelDataDownloadTimeoutInSeconds": timeout,
    }
    ami = endpoint.inference_ami_version or (CUDA_13_AMI if has_gpu(kind) else None)
    if ami:
        request["InferenceAmiVersion"] = ami
    return request


def _machine(endpoint: Endpoint, kind: str) -> Request:
    """Developer guide, "Deploy to multiple instance types with instance pools": in place of
    InstanceType; priority 1 is tried first."""
    if not endpoint.fallback or kind != endpoint.instances.type:
        return {"InstanceType": kind}
    pools = [{"InstanceType": each, "Priority": priority}
             for priority, each in enumerate(endpoint.instance_types, start=1)]  # fmt: skip
    return {"InstancePools": pools}


def _serverless(endpoint: Endpoint) -> Request:
    serverless = endpoint.serverless
    assert serverless is not None
    request = {
        "MemorySizeInMB": serverless.memory_mb,
        "MaxConcurrency": serverless.max_concurrency,
    }
    if serverless.provisioned_concurrency:
        request["ProvisionedConcurrency"] = serverless.provisioned_concurrency
    return request


def asynchronous(settings: Asynchronous, output: str, kms_key: str | None) -> Request:
    """AsyncInferenceConfig."""
    target: Request = {"S3OutputPath": settings.output or f"{output}/answers"}
    # Inside, so that whoever may write the one may write the other.
    target["S3FailurePath"] = target["S3OutputPath"].rstrip("/") + "/failed"
    topics = {"SuccessTopic": settings.success_topic, "ErrorTopic": settings.error_topic}
    named = {key: topic for key, topic in topics.items() if topic}
    if named:
        target["NotificationConfig"] = named
    if kms_key:
        target["KmsKeyId"] = kms_key
    request: Request = {"OutputConfig": target}
    if settings.max_concurrent_per_instance:
        request["ClientConfig"] = {
            "MaxConcurrentInvocationsPerInstance": settings.max_concurrent_per_instance
        }
    return request


def data_capture(settings: DataCapture, output: str, kms_key: str | None) -> Request:
    """DataCaptureConfig: requests and answers, text kept as text."""
    request: Request = {
        "EnableCapture": True,
        "InitialSamplingPercentage": settings.percentage,
        "DestinationS3Uri": settings.location or output,
        "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
        "CaptureContentTypeHeader": {
            "CsvContentTypes": ["text/csv"],
            "JsonContentTypes": ["application/json", "application/jsonlines"],
        },
    }
    if kms_key:
        request["KmsKeyId"] = kms_key
    return request


def deployment(update: Update) -> Request:
    """DeploymentConfig: how the new fleet takes over, and which alarms bring the old one back."""
    step = {"Type": "CAPACITY_PERCENT", "Value": update.step_percent}
    request: Request = {}
    if update.strategy == "rolling":
        request["RollingUpdatePolicy"] = {
            "MaximumBatchSize": step,
            "WaitIntervalInSeconds": update.wait_seconds,
        }
    else:
        kind = update.strategy.upper().replace("-", "_")
        routing: Request = {"Type": kind, "WaitIntervalInSeconds": update.wait_seconds}
        if kind != "ALL_AT_ONCE":
            routing["CanarySize" if kind == "CANARY" else "LinearStepSize"] = step
        request["BlueGreenUpdatePolicy"] = {
            "TrafficRoutingConfiguration": routing,
            "TerminationWaitInSeconds": update.terminate_after_seconds,
        }
    if update.alarms:
        alarms = [{"AlarmName": name} for name in update.alarms]
        request["AutoRollbackConfiguration"] = {"Alarms": alarms}
    return request


def transform_job(config: JobConfig, name: str, model: str, inputs: TransformInputs) -> Request:
    """CreateTransformJob, without its tags."""
    transform = config.transform
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": inputs.source}}
    output: Request = {"S3OutputPath": inputs.output, "Accept": transform.accept}
    resources: Request = {
        "InstanceType": transform.instance_type,
        "InstanceCount": transform.instance_count,
    }
    if transform.split == "line":
        output["AssembleWith"] = "Line"
    if config.aws.kms_key:
        output["KmsKeyId"] = config.aws.kms_key
        if transform.instance_type not in local_storage.table():
            resources["VolumeKmsKeyId"] = config.aws.kms_key
    if transform.ami_version:
        resources["TransformAmiVersion"] = transform.ami_version
    request: Request = {
        "TransformJobName": name,
        "ModelName": model,
        "BatchStrategy": {"multi-record": "MultiRecord", "single-record": "SingleRecord"}[
            transform.batch
        ],
        "MaxPayloadInMB": transform.max_payload_mb,
        "TransformInput": {
            "DataSource": source,
            "ContentType": inputs.content_type,
            "SplitType": transform.split.title(),
        },
        "TransformOutput": output,
        "TransformResources": resources,
    }
    if transform.max_concurrent:
        request["MaxConcurrentTransforms"] = transform.max_concurrent
    client = {
        "InvocationsTimeoutInSeconds": transform.timeout_seconds,
        "InvocationsMaxRetries": transform.max_retries,
    }
    if given := {key: value for key, value in client.items() if value is not None}:
        request["ModelClientConfig"] = given
    if transform.join_input:
        request["DataProcessing"] = {"JoinSource": "Input"}
    return request
