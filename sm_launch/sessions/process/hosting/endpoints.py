"""Endpoints: create, update, describe, list, delete."""

from __future__ import annotations

import os
import time
from typing import Any

from sm_launch.sessions.errors import ServiceError
from sm_launch.sessions.process import store
from sm_launch.sessions.process.base import Machine, Response
from sm_launch.sessions.process.children import kill_processes_below, processes_below
from sm_launch.sessions.process.hosting import capture
from sm_launch.sessions.process.hosting.definitions import EndpointConfigs, Models
from sm_launch.sessions.process.hosting.endpoint_run import PENDING_UPDATE, WEIGHTS
from sm_launch.sessions.process.resources import Resources
from sm_launch.sessions.process.store import Record, State

_STATUS = "EndpointStatus"


class Endpoints(Resources):
    """What `serve` runs."""

    directory = store.ENDPOINTS
    resource = word = "endpoint"
    prefix = "Endpoint"
    listed = "Endpoints"
    summary = ("CreationTime", "LastModifiedTime", _STATUS)
    end = ("LastModifiedTime",)
    after_death = "; its server was ended. Delete the endpoint and create it again."
    hidden = frozenset({"Tags", "DeploymentConfig"})

    def __init__(self, machine: Machine, configs: EndpointConfigs, models: Models) -> None:
        super().__init__(machine)
        self._configs = configs
        self._models = models

    def create(self, **request: Any) -> Response:
        """Start serving; returns while the endpoint is still `Creating`."""
        operation = "CreateEndpoint"
        self._machine.validator.check(operation, request)
        deployment = self._deployment(request["EndpointConfigName"], operation)
        state = {
            _STATUS: "Creating",
            **_endpoint_state(deployment),
            "LastModifiedTime": time.time(),
        }
        return {"EndpointArn": self.begin(request, {"deployment": deployment}, state)}

    def update(self, **request: Any) -> Response:
        """Move an endpoint to another configuration while it goes on answering.

        Its status is `Updating` until the new server is healthy and the old one has drained. If
        the new one fails, the endpoint is `InService` with its old configuration and a
        FailureReason.
        """
        operation = "UpdateEndpoint"
        self._machine.validator.check(operation, request)
        record, state = self.get(request["EndpointName"], operation)
        if state[_STATUS] == "Failed":
            raise ServiceError(
                f"Endpoint {record.name} has failed and cannot be updated: delete it and create it "
                f"again. {state.get('FailureReason', '')}".rstrip(),
                operation,
            )
        _require_settled(state, operation)
        deployment = self._deployment(request["EndpointConfigName"], operation)
        if ("AsyncInferenceConfig" in state) != (deployment["asynchronous"] is not None):
            raise ServiceError(
                "An update cannot turn a real-time endpoint into an asynchronous one, or back: "
                "create another endpoint",
                operation,
            )
        update = {"state": _endpoint_state(deployment), "deployment": deployment}
        record.write(PENDING_UPDATE, update)
        return {"EndpointArn": state["EndpointArn"]}

    def update_weights(self, **request: Any) -> Response:
        """Share the traffic out anew; one server a variant stays, whatever the capacities."""
        operation = "UpdateEndpointWeightsAndCapacities"
        self._machine.validator.check(operation, request)
        record, state = self.get(request["EndpointName"], operation)
        _require_settled(state, operation)
        known = {variant["VariantName"] for variant in state["ProductionVariants"]}
        weights = record.read(WEIGHTS) if record.has(WEIGHTS) else {}
        for wanted in request["DesiredWeightsAndCapacities"]:
            if wanted["VariantName"] not in known:
                raise ServiceError(
                    f"Variant {wanted['VariantName']!r} is none of {sorted(known)}", operation
                )
            if "DesiredWeight" in wanted:
                weights[wanted["VariantName"]] = wanted["DesiredWeight"]
        record.write(WEIGHTS, weights)
        return {"EndpointArn": state["EndpointArn"]}

    def delete(self, **request: Any) -> Response:
        """Drain, stop and remove; returns while the endpoint is still `Deleting`."""
        self._machine.validator.check("DeleteEndpoint", request)
        record, _ = self.get(request["EndpointName"], "DeleteEndpoint")
        record.request_stop()
        _remove_unless_supervised(record)
        return {}

    def url(self, name: str, variant: str | None = None) -> str:
        """Where a variant's server itself listens, for example `http://127.0.0.1:40123`.

        Args:
            name: the endpoint.
            variant: the production variant; the first one by default.

        Raises:
            ServiceError: there is no such endpoint or variant, or it is not in service.
        """
        state = self.in_service(name, "DescribeEndpoint")
        variant = variant or state["ProductionVariants"][0]["VariantName"]
        if variant not in state["ports"]:
            raise ServiceError(f"Endpoint {name} has no variant {variant}", "DescribeEndpoint")
        return f"http://127.0.0.1:{state['ports'][variant]}"

    def processes(self, name: str) -> list[int]:
        """The processes of an endpoint's servers."""
        return processes_below(self.get(name, "DescribeEndpoint")[0].path)

    def in_service(self, name: str, operation: str) -> State:
        """The state of an endpoint that has servers to talk to.

        Raises:
            ServiceError: there is no such endpoint, or it is not in service.
        """
        _, state = self.get(name, operation)
        if state[_STATUS] not in {"InService", "Updating"}:
            raise ServiceError(
                f"Endpoint {name} is not in service: its status is {state[_STATUS]}. "
                f"{state.get('FailureReason', '')}".rstrip(),
                operation,
            )
        return state

    def shown(self, record: Record, state: State) -> State | None:
        """With the update, the weights or the deletion that was asked for since."""
        if record.stop_requested and state[_STATUS] == "Failed":
            # It was being deleted when its supervisor died: finish that.
            _remove_unless_supervised(record)
            return None
        if record.stop_requested:
            state[_STATUS] = "Deleting"
        elif state[_STATUS] == "InService" and record.has(PENDING_UPDATE):
            state[_STATUS] = "Updating"
        if record.has(WEIGHTS):
            weights = record.read(WEIGHTS)
            for variant in state["ProductionVariants"]:
                weight = weights.get(variant["VariantName"], variant["CurrentWeight"])
                variant |= {"CurrentWeight": weight, "DesiredWeight": weight}
        return state

    def _deployment(self, config_name: str, operation: str) -> State:
        """All that an endpoint's servers need, as it is now: names may go while they run."""
        config = self._configs.created(config_name, operation)
        variants = []
        for variant in config["ProductionVariants"]:
            model = self._models.created(variant["ModelName"], operation)
            isolated = model.get("EnableNetworkIsolation", False)
            container = model["PrimaryContainer"]
            variants.append({"variant": variant, "container": container, "isolated": isolated})
        images = [each["container"].get("Image", "") for each in variants]
        self._machine.require(self._machine.settings.serve_command, images, operation)
        captured = config.get("DataCaptureConfig", {})
        return {
            "EndpointConfigName": config_name,
            "variants": variants,
            "capture": captured if captured.get("EnableCapture") else None,
            "asynchronous": config.get("AsyncInferenceConfig"),
        }


def _require_settled(state: State, operation: str) -> None:
    if state[_STATUS] != "InService":
        raise ServiceError(
            f'Cannot update in-progress endpoint "{state["EndpointArn"]}".', operation
        )


def _remove_unless_supervised(record: Record) -> None:
    """Remove an endpoint whose supervisor is gone; a living one does it itself."""
    try:
        lock = record.lock()
    except FileNotFoundError:
        return
    if lock is None:
        return
    try:
        kill_processes_below(record.path)
        record.remove()
    finally:
        os.close(lock)


def _endpoint_state(deployment: State) -> State:
    """What an endpoint's state says about the configuration that it runs."""
    state = {
        "EndpointConfigName": deployment["EndpointConfigName"],
        "ProductionVariants": [_variant_summary(each) for each in deployment["variants"]],
    }
    if captured := deployment["capture"]:
        state |= {"capture": captured, "DataCaptureConfig": capture.summary(captured)}
    if deployment["asynchronous"]:
        state["AsyncInferenceConfig"] = deployment["asynchronous"]
    return state


def _variant_summary(deployed: State) -> State:
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
