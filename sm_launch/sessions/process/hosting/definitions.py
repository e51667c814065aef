"""Models and endpoint configurations: names for what a server needs, without a server."""

from __future__ import annotations

import os
import time
from typing import Any

from sm_launch.sessions.errors import ServiceError
from sm_launch.sessions.process import store, uris
from sm_launch.sessions.process.base import Machine, Request, Response
from sm_launch.sessions.process.hosting.serving_process import artefact_path
from sm_launch.sessions.process.resources import Resources
from sm_launch.sessions.references import require as require_references


class _Definitions(Resources):
    """Resources that are written down, and run nothing."""

    summary = ("CreationTime",)

    def create(self, **request: Any) -> Response:
        """Give a name to what the request describes."""
        operation = f"Create{self.prefix}"
        self._machine.validator.check(operation, request)
        self.check(request, operation)
        arn = self.arn(request[self.name_key])
        _, lock = self.write(request, {}, {"arn": arn, "CreationTime": time.time()})
        os.close(lock)
        return {self.arn_key: arn}

    def check(self, request: Request, operation: str) -> None:
        """Refuse what could not run here."""
        raise NotImplementedError

    def delete(self, **request: Any) -> Response:
        """Forget the name; what runs by it goes on."""
        operation = f"Delete{self.prefix}"
        self._machine.validator.check(operation, request)
        self.get(request[self.name_key], operation)[0].remove()
        return {}


class Models(_Definitions):
    """Names for an artefact and an environment."""

    directory = store.MODELS
    resource = word = "model"
    prefix = "Model"
    listed = "Models"

    def check(self, request: Request, operation: str) -> None:
        """Refuse a model of more than one container, or without its artefact."""
        _refuse_model(request, operation)
        require_references(request["PrimaryContainer"].get("Environment", {}))
        source = artefact_path(request["PrimaryContainer"])
        if source is not None and not source.exists():
            raise ServiceError(f"Could not find model data at {source.as_uri()}.", operation)


class EndpointConfigs(_Definitions):
    """Names for the variants that an endpoint is to run."""

    directory = store.ENDPOINT_CONFIGS
    resource = "endpoint-config"
    word = "endpoint configuration"
    prefix = "EndpointConfig"
    listed = "EndpointConfigs"

    def __init__(self, machine: Machine, models: Models) -> None:
        super().__init__(machine)
        self._models = models

    def check(self, request: Request, operation: str) -> None:
        """Refuse variants that processes cannot be, or without a model."""
        _refuse_config(request, operation)
        for variant in request["ProductionVariants"]:
            self._models.get(variant["ModelName"], operation)


def _refuse_model(request: Request, operation: str) -> None:
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


def _refuse_config(request: Request, operation: str) -> None:
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


def _check_asynchronous(output: Request, operation: str) -> None:
    if "NotificationConfig" in output:
        raise ServiceError("The process target sends no notifications (SNS)", operation)
    if "S3OutputPath" not in output:
        raise ServiceError("AsyncInferenceConfig.OutputConfig.S3OutputPath is missing", operation)
    for key in ("S3OutputPath", "S3FailurePath"):
        if key in output:
            uris.to_path(output[key], f"AsyncInferenceConfig.OutputConfig.{key}")
