"""Models and endpoint configurations: names for what a server needs, without a server."""

from __future__ import annotations

import os
import time
from typing import Any

from sm_launch.sessions.errors import ServiceError
from sm_launch.sessions.process import store
from sm_launch.sessions.process.base import Machine, Request, Response
from sm_launch.sessions.process.deployment import refuse_config, refuse_model
from sm_launch.sessions.process.resources import Resources
from sm_launch.sessions.process.serving_process import artefact_path
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
        refuse_model(request, operation)
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
        refuse_config(request, operation)
        for variant in request["ProductionVariants"]:
            self._models.get(variant["ModelName"], operation)
