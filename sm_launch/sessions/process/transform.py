"""Batch transform jobs: create, describe, stop, list."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from sm_launch.sessions.errors import RESOURCE_IN_USE, ServiceError
from sm_launch.sessions.log_file import read_lines
from sm_launch.sessions.process import detached, uris
from sm_launch.sessions.process.base import Request, Response, arn, described, page, require_command
from sm_launch.sessions.process.hosting import Hosting
from sm_launch.sessions.process.store import TRANSFORM_JOBS, Record, State
from sm_launch.sessions.process.transform_run import failure_of_dead_supervisor, input_files

_STATUS = "TransformJobStatus"
_BUFFER_MEGABYTES = 100
"""CreateTransformJob: MaxConcurrentTransforms times MaxPayloadInMB must not exceed it."""


class TransformJobs(Hosting):
    """The batch half of hosting: a model over files, without an endpoint."""

    def create_transform_job(self, **request: Any) -> Response:
        """Start a transform job; it runs on after the call.

        Every input file `x` becomes `<S3OutputPath>/x.out`. A file with a record that the model
        refuses has no output and fails the job; the other files are done nevertheless.
        """
        operation = "CreateTransformJob"
        self._validator.check(operation, request)
        _refuse_what_needs_aws(request, operation)
        model = self.describe_model(ModelName=request["ModelName"])
        require_command(self._settings.serve_command, operation)
        name = request["TransformJobName"]
        resource = arn("transform-job", name)
        state: State = {
            "TransformJobArn": resource,
            _STATUS: "InProgress",
            "CreationTime": time.time(),
        }
        contents = self._request_file(request, container=model["PrimaryContainer"])
        try:
            record, lock = self._store.create(TRANSFORM_JOBS, name, contents, state)
        except FileExistsError:
            raise ServiceError(
                f"Job name must be unique within an AWS account and region, and a job with this "
                f"name already exists ({resource})",
                operation,
                code=RESOURCE_IN_USE,
            ) from None
        detached.start(record, lock)
        return {"TransformJobArn": resource}

    def describe_transform_job(self, **request: Any) -> Response:
        """Status, times and failure reason of a job."""
        operation = "DescribeTransformJob"
        self._validator.check(operation, request)
        record, state = self._transform_job(request["TransformJobName"], operation)
        created: Request = record.read("request")["request"]
        echo = {key: value for key, value in created.items() if key not in {"Tags", "Environment"}}
        return {**echo, **described(state)}

    def stop_transform_job(self, **request: Any) -> Response:
        """Stop between two payloads; files that are done keep their output."""
        operation = "StopTransformJob"
        self._validator.check(operation, request)
        record, state = self._transform_job(request["TransformJobName"], operation)
        if state[_STATUS] not in {"InProgress", "Stopping"}:
            raise ServiceError(
                f"The request was rejected because the transform job is in status "
                f"{state[_STATUS]}.",
                operation,
            )
        record.request_stop()
        return {}

    def list_transform_jobs(self, **request: Any) -> Response:
        """Summaries, filtered and sorted as asked."""
        self._validator.check("ListTransformJobs", request)
        keys = ("TransformJobName", "TransformJobArn", "CreationTime", "TransformEndTime",
                _STATUS, "FailureReason")  # fmt: skip
        summaries = []
        for record in self._store.records(TRANSFORM_JOBS):
            found = self._find_transform_job(record.name)
            if found:
                state = {"TransformJobName": record.name, **described(found[1])}
                summaries.append({key: state[key] for key in keys if key in state})
        chosen, more = page(summaries, request, name_key="TransformJobName", status_key=_STATUS)
        return {"TransformJobSummaries": chosen, **more}

    def transform_log_path(self, name: str) -> Path:
        """The file to which the job's server writes; it may not exist yet."""
        return self._transform_job(name, "DescribeTransformJob")[0].log_path

    def transform_log_lines(self, name: str, cursor: object = None) -> tuple[list[str], int]:
        """The log lines that are new since `cursor`, and the next cursor."""
        return read_lines(self.transform_log_path(name), cursor)

    def _find_transform_job(self, name: str) -> tuple[Record, State] | None:
        found = self._find(
            TRANSFORM_JOBS, name, status_key=_STATUS, failure=lambda _: failure_of_dead_supervisor()
        )
        if found and found[1][_STATUS] == "InProgress" and found[0].stop_requested:
            found[1][_STATUS] = "Stopping"
        return found

    def _transform_job(self, name: str, operation: str) -> tuple[Record, State]:
        found = self._find_transform_job(name)
        if found is None:
            raise ServiceError(
                f'Could not find requested job with name: "{name}".',
                operation,
                code="ResourceNotFound",
            )
        return found


def _refuse_what_needs_aws(request: Request, operation: str) -> None:
    """Say no to what is wrong or cannot be done here, before anything starts."""
    source = request["TransformInput"]["DataSource"]["S3DataSource"]
    split = request["TransformInput"].get("SplitType", "None")
    processing = request.get("DataProcessing", {})
    buffer = request.get("MaxConcurrentTransforms", 1) * request.get("MaxPayloadInMB", 6)
    problem = None
    if source["S3DataType"] != "S3Prefix":
        problem = "the process target reads S3DataType S3Prefix only"
    elif split not in {"None", "Line"}:
        problem = f"the process target has SplitType None and Line, not {split}"
    elif "InputFilter" in processing or "OutputFilter" in processing:
        problem = "the process target has no DataProcessing filters"
    elif processing.get("JoinSource", "None") != "None":
        problem = "the process target does not join inputs to outputs (JoinSource)"
    elif request["TransformResources"]["InstanceCount"] > 1:
        problem = "the process target has one instance: set TransformResources.InstanceCount to 1"
    elif buffer > _BUFFER_MEGABYTES:
        problem = (
            f"MaxConcurrentTransforms times MaxPayloadInMB is {buffer}; it must not exceed "
            f"{_BUFFER_MEGABYTES}"
        )
    elif "DataCaptureConfig" in request:
        problem = "the process target does not capture data"
    if problem:
        raise ServiceError(problem, operation)
    path = uris.to_path(source["S3Uri"], "TransformInput.DataSource.S3DataSource.S3Uri")
    uris.to_path(request["TransformOutput"]["S3OutputPath"], "TransformOutput.S3OutputPath")
    if not path.exists() or not input_files(path):
        raise ServiceError(
            f"No S3 objects found under S3 URL {source['S3Uri']!r}: there is no file", operation
        )
