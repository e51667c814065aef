"""Endpoint configurations: what the process target takes, and what of one a server needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sm_launch.sessions.errors import ServiceError
from sm_launch.sessions.process import uris
from sm_launch.sessions.process.capture import summary

Document = dict[str, Any]


def snapshot(name: str, config: Document, find_model: Callable[[str], Document]) -> Document:
    """All that an endpoint's servers need, as it is now: names may be deleted while they run.

    Args:
        name: of the endpoint configuration.
        config: the endpoint configuration.
        find_model: describes a model by its name.
    """
    variants = []
    for variant in config["ProductionVariants"]:
        model = find_model(variant["ModelName"])
        variants.append(
            {
                "variant": variant,
                "container": model["PrimaryContainer"],
                "isolated": model.get("EnableNetworkIsolation", False),
            }
        )
    capture = config.get("DataCaptureConfig", {})
    return {
        "EndpointConfigName": name,
        "variants": variants,
        "capture": capture if capture.get("EnableCapture") else None,
        "asynchronous": config.get("AsyncInferenceConfig"),
    }


def endpoint_state(deployment: Document) -> Document:
    """What an endpoint's state says about the configuration that it runs."""
    state = {
        "EndpointConfigName": deployment["EndpointConfigName"],
        "ProductionVariants": [_variant_summary(each) for each in deployment["variants"]],
    }
    if capture := deployment["capture"]:
        state |= {"capture": capture, "DataCaptureConfig": summary(capture)}
    if deployment["asynchronous"]:
        state["AsyncInferenceConfig"] = deployment["asynchronous"]
    return state


def _variant_summary(deployed: Document) -> Document:
    variant, image = deployed["variant"], deployed["container"].get("Image")
    weight = variant.get("InitialVariantWeight", 1.0)
    return {
        "VariantName": variant["VariantName"],
        "DeployedImages": [{"SpecifiedImage": image, "ResolvedImage": image}] if image else [],
        "CurrentWeight": weight,
        "DesiredWeight": weight,
        "CurrentInstanceCount": 1,  # one server, whatever was asked for
        "DesiredInstanceCount": variant.get("InitialInstanceCount", 1),
    }


def refuse_model(request: Document, operation: str) -> None:
    """Say no to models that one `serve` process cannot be.

    Raises:
        ServiceError: several containers, a model package, Mode MultiModel, a strange data source.
    """
    container = request.get("PrimaryContainer")
    if container is None or "Containers" in request:
        raise ServiceError(
            "The process target runs models of one container: give PrimaryContainer", operation
        )
    if "ModelPackageName" in container or container.get("Mode", "SingleModel") != "SingleModel":
        raise ServiceError(
            "The process target runs neither model packages nor Mode MultiModel: give "
            "ModelDataUrl or ModelDataSource",
            operation,
        )
    source = container.get("ModelDataSource", {}).get("S3DataSource", {})
    if source and (source["S3DataType"], source["CompressionType"]) not in {
        ("S3Prefix", "None"),
        ("S3Object", "Gzip"),
    }:
        raise ServiceError(
            "ModelDataSource.S3DataSource: give S3DataType S3Prefix with CompressionType None, "
            "or S3Object with Gzip",
            operation,
        )


def refuse_config(request: Document, operation: str) -> None:
    """Say no to configurations that processes cannot be.

    Raises:
        ServiceError: shadow variants, variants without a model, two of the same name, SNS topics.
        UserInputError: locations that are no file:// URIs.
    """
    if "ShadowProductionVariants" in request:
        raise ServiceError("The process target has no shadow variants", operation)
    names = [variant["VariantName"] for variant in request["ProductionVariants"]]
    if len(set(names)) < len(names):
        raise ServiceError(f"VariantName must be unique, not {names}", operation)
    for variant in request["ProductionVariants"]:
        if "ModelName" not in variant:
            raise ServiceError(f"Variant {variant['VariantName']}: ModelName is missing", operation)
    if "DataCaptureConfig" in request:
        uri = request["DataCaptureConfig"]["DestinationS3Uri"]
        uris.to_path(uri, "DataCaptureConfig.DestinationS3Uri")
    if "AsyncInferenceConfig" in request:
        _check_asynchronous(request["AsyncInferenceConfig"]["OutputConfig"], operation)


def _check_asynchronous(output: Document, operation: str) -> None:
    if "NotificationConfig" in output:
        raise ServiceError("The process target sends no notifications (SNS)", operation)
    if "S3OutputPath" not in output:
        raise ServiceError("AsyncInferenceConfig.OutputConfig.S3OutputPath is missing", operation)
    for key in ("S3OutputPath", "S3FailurePath"):
        if key in output:
            uris.to_path(output[key], f"AsyncInferenceConfig.OutputConfig.{key}")
