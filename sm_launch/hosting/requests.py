"""The hosting requests, as pure functions of job.yaml; `variants` has their larger parts."""

from __future__ import annotations

from sm_launch.hosting import variants
from sm_launch.hosting.variants import HostingInputs
from sm_launch.job import hub_models
from sm_launch.job.config import JobConfig
from sm_launch.job.naming import LOCAL_ROLE, Request, tags, vpc_config
from sm_launch.job.passthrough import merged


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
        # Service model, S3ModelDataSource: a valid prefix always ends with a slash.
        prefix = model_data if model_data.endswith("/") else f"{model_data}/"
        source = {"S3Uri": prefix, "S3DataType": "S3Prefix", "CompressionType": "None"}
        container["ModelDataSource"] = {"S3DataSource": source}
    request: Request = {
        "ModelName": name,
        "PrimaryContainer": container,
        "ExecutionRoleArn": role,
        "Tags": tags(config),
    }
    if not config.endpoint.components:  # which have the network of their endpoint
        request |= _hosting_network(config)
    return merged(request, config.sagemaker.model)


def _hosting_network(config: JobConfig) -> Request:
    network, request = config.endpoint.network, Request()
    if network.isolation:
        request["EnableNetworkIsolation"] = True
    if network.subnets:
        request["VpcConfig"] = vpc_config(network)
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
    return merged(request, config.sagemaker.endpoint_config)


def create_endpoint(config: JobConfig, name: str, endpoint_config: str) -> Request:
    """CreateEndpoint."""
    request: Request = {"EndpointName": name, "EndpointConfigName": endpoint_config}
    if config.endpoint.update and not config.endpoint.components:
        request["DeploymentConfig"] = variants.deployment(config.endpoint.update)
    return merged({**request, "Tags": tags(config)}, config.sagemaker.endpoint)


def create_transform_job(
    config: JobConfig, name: str, model: str, inputs: variants.TransformInputs
) -> Request:
    """CreateTransformJob."""
    request = variants.transform_job(config, name, model, inputs)
    return merged({**request, "Tags": tags(config)}, config.sagemaker.transform)
