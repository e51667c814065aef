"""Models, endpoint configurations and endpoints: create, describe, list, delete."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from sm_launch.sessions.errors import ServiceError
from sm_launch.sessions.log_file import read_lines
from sm_launch.sessions.process import detached
from sm_launch.sessions.process.base import (
    Request,
    Response,
    SessionBase,
    arn,
    described,
    existing,
    missing,
    page,
    require_command,
)
from sm_launch.sessions.process.children import kill_processes_below, processes_below
from sm_launch.sessions.process.deployment import (
    endpoint_state,
    refuse_config,
    refuse_model,
    snapshot,
)
from sm_launch.sessions.process.hosting_run import (
    PENDING_UPDATE,
    WEIGHTS,
    failure_of_dead_supervisor,
)
from sm_launch.sessions.process.serving_process import artefact_path
from sm_launch.sessions.process.store import (
    ENDPOINT_CONFIGS,
    ENDPOINTS,
    MODELS,
    Record,
    State,
)
from sm_launch.sessions.references import require as require_references

_STATUS = "EndpointStatus"


class Hosting(SessionBase):
    """The hosting half of the process session."""

    def create_model(self, **request: Any) -> Response:
        """Give a name to an artefact and an environment."""
        operation = "CreateModel"
        self._validator.check(operation, request)
        refuse_model(request, operation)
        require_references(request["PrimaryContainer"].get("Environment", {}))
        source = artefact_path(request["PrimaryContainer"])
        if source is not None and not source.exists():
            raise ServiceError(f"Could not find model data at {source.as_uri()}.", operation)
        return {"ModelArn": self._name(MODELS, "model", request["ModelName"], request, operation)}

    def describe_model(self, **request: Any) -> Response:
        """The model as it was created."""
        self._validator.check("DescribeModel", request)
        return self._named(MODELS, "model", request["ModelName"], "DescribeModel")

    def delete_model(self, **request: Any) -> Response:
        """Forget the name; the artefact and endpoints that run it stay."""
        self._validator.check("DeleteModel", request)
        return self._forget(MODELS, "model", request["ModelName"], "DeleteModel")

    def list_models(self, **request: Any) -> Response:
        """Summaries, filtered and sorted as asked."""
        self._validator.check("ListModels", request)
        chosen, more = self._summaries(MODELS, "Model", request)
        return {"Models": chosen, **more}

    def create_endpoint_config(self, **request: Any) -> Response:
        """Name the variant that an endpoint is to run."""
        operation = "CreateEndpointConfig"
        self._validator.check(operation, request)
        refuse_config(request, operation)
        for variant in request["ProductionVariants"]:
            self._named(MODELS, "model", variant["ModelName"], operation)
        name = request["EndpointConfigName"]
        created = self._name(ENDPOINT_CONFIGS, "endpoint-config", name, request, operation)
        return {"EndpointConfigArn": created}

    def describe_endpoint_config(self, **request: Any) -> Response:
        """The configuration as it was created."""
        operation = "DescribeEndpointConfig"
        self._validator.check(operation, request)
        name = request["EndpointConfigName"]
        return self._named(ENDPOINT_CONFIGS, "endpoint-config", name, operation)

    def delete_endpoint_config(self, **request: Any) -> Response:
        """Forget the configuration; endpoints that run it stay."""
        operation = "DeleteEndpointConfig"
        self._validator.check(operation, request)
        name = request["EndpointConfigName"]
        return self._forget(ENDPOINT_CONFIGS, "endpoint-config", name, operation)

    def list_endpoint_configs(self, **request: Any) -> Response:
        """Summaries, filtered and sorted as asked."""
        self._validator.check("ListEndpointConfigs", request)
        chosen, more = self._summaries(ENDPOINT_CONFIGS, "EndpointConfig", request)
        return {"EndpointConfigs": chosen, **more}

    def create_endpoint(self, **request: Any) -> Response:
        """Start serving; returns while the endpoint is still `Creating`."""
        operation = "CreateEndpoint"
        self._validator.check(operation, request)
        deployment = self._deployment(request["EndpointConfigName"], operation)
        require_command(self._settings.serve_command, operation)
        name = request["EndpointName"]
        now = time.time()
        state: State = {
            "EndpointArn": arn("endpoint", name),
            _STATUS: "Creating",
            **endpoint_state(deployment),
            "CreationTime": now,
            "LastModifiedTime": now,
        }
        contents = self._request_file(request, deployment=deployment)
        try:
            record, lock = self._store.create(ENDPOINTS, name, contents, state)
        except FileExistsError:
            raise existing("endpoint", arn("endpoint", name), operation) from None
        detached.start(record, lock)
        return {"EndpointArn": arn("endpoint", name)}

    def update_endpoint(self, **request: Any) -> Response:
        """Move an endpoint to another configuration while it goes on answering.

        Its status is `Updating` until the new server is healthy and the old one has drained. If
        the new one fails, the endpoint is `InService` with its old configuration and a
        FailureReason.
        """
        operation = "UpdateEndpoint"
        self._validator.check(operation, request)
        record, state = self._endpoint(request["EndpointName"], operation)
        if state[_STATUS] == "Failed":
            raise ServiceError(
                f"Endpoint {record.name} has failed and cannot be updated: delete it and create it "
                f"again. {state.get('FailureReason', '')}".rstrip(),
                operation,
            )
        if state[_STATUS] != "InService":
            raise ServiceError(
                f'Cannot update in-progress endpoint "{state["EndpointArn"]}".', operation
            )
        deployment = self._deployment(request["EndpointConfigName"], operation)
        if ("AsyncInferenceConfig" in state) != (deployment["asynchronous"] is not None):
            raise ServiceError(
                "An update cannot turn a real-time endpoint into an asynchronous one, or back: "
                "create another endpoint",
                operation,
            )
        update = {
            "state": endpoint_state(deployment),
            "deployment": deployment,
        }
        record.write(PENDING_UPDATE, update)
        return {"EndpointArn": state["EndpointArn"]}

    def update_endpoint_weights_and_capacities(self, **request: Any) -> Response:
        """Share the traffic out anew; one server a variant stays, whatever the capacities."""
        operation = "UpdateEndpointWeightsAndCapacities"
        self._validator.check(operation, request)
        record, state = self._endpoint(request["EndpointName"], operation)
        if state[_STATUS] != "InService":
            raise ServiceError(
                f'Cannot update in-progress endpoint "{state["EndpointArn"]}".', operation
            )
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

    def describe_endpoint(self, **request: Any) -> Response:
        """Status and variants of an endpoint."""
        self._validator.check("DescribeEndpoint", request)
        record, state = self._endpoint(request["EndpointName"], "DescribeEndpoint")
        return {"EndpointName": record.name, **described(state)}

    def delete_endpoint(self, **request: Any) -> Response:
        """Drain, stop and remove; returns while the endpoint is still `Deleting`."""
        self._validator.check("DeleteEndpoint", request)
        record, _ = self._endpoint(request["EndpointName"], "DeleteEndpoint")
        record.request_stop()
        _remove_unless_supervised(record)
        return {}

    def list_endpoints(self, **request: Any) -> Response:
        """Summaries, filtered and sorted as asked."""
        self._validator.check("ListEndpoints", request)
        keys = ("EndpointName", "EndpointArn", "CreationTime", "LastModifiedTime", _STATUS)
        summaries = []
        for record in self._store.records(ENDPOINTS):
            found = self._find_endpoint(record.name)
            if found:
                state = {"EndpointName": record.name, **described(found[1])}
                summaries.append({key: state[key] for key in keys})
        chosen, more = page(summaries, request, name_key="EndpointName", status_key=_STATUS)
        return {"Endpoints": chosen, **more}

    def endpoint_log_path(self, name: str) -> Path:
        """The file to which the server's stdout and stderr go; it may not exist yet."""
        return self._endpoint(name, "DescribeEndpoint")[0].log_path

    def endpoint_log_lines(self, name: str, cursor: object = None) -> tuple[list[str], int]:
        """The log lines that are new since `cursor`, and the next cursor."""
        return read_lines(self.endpoint_log_path(name), cursor)

    def endpoint_url(self, name: str, variant: str | None = None) -> str:
        """Where a variant's server itself listens, for example `http://127.0.0.1:40123`.

        Args:
            name: the endpoint.
            variant: the production variant; the first one by default.

        Raises:
            ServiceError: there is no such endpoint or variant, or it is not in service.
        """
        state = self._in_service(name, "DescribeEndpoint")
        variant = variant or state["ProductionVariants"][0]["VariantName"]
        if variant not in state["ports"]:
            raise ServiceError(f"Endpoint {name} has no variant {variant}", "DescribeEndpoint")
        return f"http://127.0.0.1:{state['ports'][variant]}"

    def endpoint_processes(self, name: str) -> list[int]:
        """The processes of an endpoint's servers."""
        return processes_below(self._endpoint(name, "DescribeEndpoint")[0].path)

    def _in_service(self, name: str, operation: str) -> State:
        """The state of an endpoint that has servers to talk to."""
        _, state = self._endpoint(name, operation)
        if state[_STATUS] not in {"InService", "Updating"}:
            raise ServiceError(
                f"Endpoint {name} is not in service: its status is {state[_STATUS]}. "
                f"{state.get('FailureReason', '')}".rstrip(),
                operation,
            )
        return state

    def _deployment(self, config_name: str, operation: str) -> State:
        config = self._named(ENDPOINT_CONFIGS, "endpoint-config", config_name, operation)
        return snapshot(
            config_name, config, lambda name: self._named(MODELS, "model", name, operation)
        )

    def _endpoint(self, name: str, operation: str) -> tuple[Record, State]:
        found = self._find_endpoint(name)
        if found is None:
            raise missing("endpoint", arn("endpoint", name), operation)
        return found

    def _find_endpoint(self, name: str) -> tuple[Record, State] | None:
        found = self._find(
            ENDPOINTS, name, status_key=_STATUS, failure=lambda _: failure_of_dead_supervisor()
        )
        if found and found[0].stop_requested and found[1][_STATUS] == "Failed":
            # It was being deleted when its supervisor died: finish that.
            _remove_unless_supervised(found[0])
            return None
        if found and found[0].stop_requested:
            found[1][_STATUS] = "Deleting"
        elif found and found[1][_STATUS] == "InService" and found[0].has(PENDING_UPDATE):
            found[1][_STATUS] = "Updating"
        if found and found[0].has(WEIGHTS):
            weights = found[0].read(WEIGHTS)
            for variant in found[1]["ProductionVariants"]:
                weight = weights.get(variant["VariantName"], variant["CurrentWeight"])
                variant |= {"CurrentWeight": weight, "DesiredWeight": weight}
        return found

    def _name(self, kind: str, resource: str, name: str, request: Request, operation: str) -> str:
        resource_arn = arn(resource, name)
        state = {"arn": resource_arn, "CreationTime": time.time()}
        try:
            _, lock = self._store.create(kind, name, {"request": request}, state)
        except FileExistsError:
            raise existing(_spoken(resource), resource_arn, operation) from None
        os.close(lock)
        return resource_arn

    def _named(self, kind: str, resource: str, name: str, operation: str) -> Response:
        record = self._store.find(kind, name)
        if record is None:
            raise missing(_spoken(resource), arn(resource, name), operation)
        request = {
            key: value for key, value in record.read("request")["request"].items() if key != "Tags"
        }
        arn_key = "ModelArn" if kind == MODELS else "EndpointConfigArn"
        state = record.read("state")
        return {**request, arn_key: state["arn"], **described(state)}

    def _forget(self, kind: str, resource: str, name: str, operation: str) -> Response:
        self._named(kind, resource, name, operation)
        Record(self._store.home / kind / name).remove()
        return {}

    def _summaries(
        self, kind: str, prefix: str, request: Request
    ) -> tuple[list[Response], dict[str, str]]:
        items = []
        for record in self._store.records(kind):
            try:
                state = record.read("state")
            except FileNotFoundError:  # deleted meanwhile
                continue
            summary = {f"{prefix}Name": record.name, f"{prefix}Arn": state["arn"]}
            items.append({**summary, **described(state)})
        return page(items, request, name_key=f"{prefix}Name")


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


def _spoken(resource: str) -> str:
    return resource.replace("endpoint-config", "endpoint configuration")
