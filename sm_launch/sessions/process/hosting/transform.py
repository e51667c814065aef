"""Batch transform jobs: create, describe, stop, list."""

from __future__ import annotations

from typing import Any

from sm_launch.sessions.errors import RESOURCE_IN_USE, ServiceError
from sm_launch.sessions.process import store, uris
from sm_launch.sessions.process.base import Machine, Request, Response
from sm_launch.sessions.process.hosting.definitions import Models
from sm_launch.sessions.process.hosting.transform_run import input_files
from sm_launch.sessions.process.resources import Jobs

_BUFFER_MEGABYTES = 100
"""CreateTransformJob: MaxConcurrentTransforms times MaxPayloadInMB must not exceed it."""


class TransformJobs(Jobs):
    """The batch half of hosting: a model over files, without an endpoint."""

    directory = store.TRANSFORM_JOBS
    resource = "transform-job"
    word = "transform job"
    prefix = "TransformJob"
    listed = "TransformJobSummaries"
    summary = ("CreationTime", "TransformEndTime", "TransformJobStatus", "FailureReason")
    hidden = frozenset({"Tags", "Environment"})
    end = ("TransformEndTime",)
    after_death = "; its server was ended. Start a new job."
    taken = (
        "Job name must be unique within an AWS account and region, and a job with this "
        "name already exists ({arn})",
        RESOURCE_IN_USE,
    )

    def __init__(self, machine: Machine, models: Models) -> None:
        super().__init__(machine)
        self._models = models

    def create(self, **request: Any) -> Response:
        """Start a transform job; it runs on after the call.

        Every input file `x` becomes `<S3OutputPath>/x.out`. A file with a record that the model
        refuses has no output and fails the job; the other files are done nevertheless.
        """
        operation = "CreateTransformJob"
        machine = self._machine
        machine.validator.check(operation, request)
        _refuse_what_needs_aws(request, operation)
        model = self._models.created(request["ModelName"], "DescribeModel")
        container = model["PrimaryContainer"]
        machine.require(machine.settings.serve_command, [container.get("Image", "")], operation)
        return {"TransformJobArn": self.begin(request, {"container": container}, {})}


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
