"""Training jobs: create, describe, stop, list."""

from __future__ import annotations

import time
from functools import cached_property
from pathlib import Path
from typing import Any

from sm_launch.sessions.errors import RESOURCE_IN_USE, ServiceError
from sm_launch.sessions.log_file import read_lines
from sm_launch.sessions.process import detached, uris
from sm_launch.sessions.process.base import (
    Request,
    Response,
    SessionBase,
    arn,
    described,
    page,
    require_command,
)
from sm_launch.sessions.process.metrics import MetricScan
from sm_launch.sessions.process.store import TRAINING_JOBS, Record, State
from sm_launch.sessions.process.training_run import (
    CHECKPOINTS_PATH,
    failure_of_dead_supervisor,
)
from sm_launch.sessions.references import require as require_references

_STATUS = "TrainingJobStatus"
_STOPPABLE = frozenset({"InProgress"})


class TrainingJobs(SessionBase):
    """The training half of the process session."""

    @cached_property
    def _metric_scans(self) -> dict[Path, MetricScan]:
        """One a job, so that following a job does not read its whole log at every look."""
        return {}

    def create_training_job(self, **request: Any) -> Response:
        """Start a training job; it runs on after the call.

        Raises:
            RequestError, ServiceError: the request is not one that SageMaker takes, the data does
                not exist, or there is a job of that name.
            UserInputError: the request is valid but cannot be run by processes on this machine.
        """
        return {"TrainingJobArn": self.start_training_job(request)}

    def start_training_job(self, request: Request, **state: Any) -> str:
        """The same for a request as a dict; `state` is added to what describe shows.

        Returns:
            The job's ARN.
        """
        operation = "CreateTrainingJob"
        self._check_training_request(request, operation)
        require_command(self._settings.train_command, operation)
        record, lock = self._new_job(request, state, operation)
        detached.start(record, lock)
        return arn("training-job", record.name)

    def _check_training_request(self, request: Request, operation: str) -> None:
        self._validator.check("CreateTrainingJob", request)
        require_references(request.get("Environment", {}))
        _refuse_what_needs_aws(request, operation)
        _require_inputs(request, operation)

    def describe_training_job(self, **request: Any) -> Response:
        """Status, transitions, artefacts and final metrics of a job."""
        operation = "DescribeTrainingJob"
        self._validator.check(operation, request)
        record, state = self._job(request["TrainingJobName"], operation)
        created: Request = record.read("request")["request"]
        if "FinalMetricDataList" not in state:
            scan = self._metric_scans.get(record.path)
            if scan is None:
                definitions = created["AlgorithmSpecification"].get("MetricDefinitions", [])
                scan = self._metric_scans[record.path] = MetricScan(record.log_path, definitions)
            state["FinalMetricDataList"] = scan.final_metrics()
        echo = {key: value for key, value in created.items() if key != "Tags"}
        return {**echo, **described(state)}

    def stop_training_job(self, **request: Any) -> Response:
        """SIGTERM, and SIGKILL 120 seconds later."""
        operation = "StopTrainingJob"
        self._validator.check(operation, request)
        record, state = self._job(request["TrainingJobName"], operation)
        if state[_STATUS] == "Stopping":
            return {}
        if state[_STATUS] not in _STOPPABLE:
            raise ServiceError(
                f"The request was rejected because the training job is in status {state[_STATUS]}.",
                operation,
            )
        record.request_stop()
        return {}

    def list_training_jobs(self, **request: Any) -> Response:
        """Summaries, filtered and sorted as asked."""
        self._validator.check("ListTrainingJobs", request)
        keys = ("TrainingJobName", "TrainingJobArn", "CreationTime", "TrainingEndTime",
                "LastModifiedTime", _STATUS, "SecondaryStatus")  # fmt: skip
        summaries = []
        for record in self._store.records(TRAINING_JOBS):
            found = self._find_job(record.name)
            if found:
                state = {"TrainingJobName": record.name, **described(found[1])}
                summaries.append({key: state[key] for key in keys if key in state})
        chosen, more = page(summaries, request, name_key="TrainingJobName", status_key=_STATUS)
        return {"TrainingJobSummaries": chosen, **more}

    def training_log_path(self, name: str) -> Path:
        """The file to which the job's stdout and stderr go; it may not exist yet."""
        return self._job(name, "DescribeTrainingJob")[0].log_path

    def training_log_lines(self, name: str, cursor: object = None) -> tuple[list[str], int]:
        """The log lines that are new since `cursor`, and the next cursor."""
        return read_lines(self.training_log_path(name), cursor)

    def _new_job(self, request: Request, more: State, operation: str) -> tuple[Record, int]:
        name = request["TrainingJobName"]
        now = time.time()
        output = request["OutputDataConfig"]
        packed = output.get("CompressionType", "GZIP") == "GZIP"
        artefact = "model.tar.gz" if packed else "model/"
        state: State = {
            "TrainingJobArn": arn("training-job", name),
            _STATUS: "InProgress",
            "SecondaryStatus": "Starting",
            "SecondaryStatusTransitions": [
                {"Status": "Starting", "StartTime": now, "StatusMessage": "Starting the job"}
            ],
            "CreationTime": now,
            "LastModifiedTime": now,
            "ModelArtifacts": {
                "S3ModelArtifacts": uris.join(output["S3OutputPath"], name, "output", artefact)
            },
            **more,
        }
        try:
            return self._store.create(TRAINING_JOBS, name, self._request_file(request), state)
        except FileExistsError:
            raise ServiceError(
                "Training job names must be unique within an AWS account and region, and a "
                f"training job with this name already exists ({state['TrainingJobArn']})",
                operation,
                code=RESOURCE_IN_USE,
            ) from None

    def _find_job(self, name: str) -> tuple[Record, State] | None:
        return self._find(
            TRAINING_JOBS, name, status_key=_STATUS, failure=failure_of_dead_supervisor
        )

    def _job(self, name: str, operation: str) -> tuple[Record, State]:
        found = self._find_job(name)
        if found is None:
            raise ServiceError(f"Requested resource not found: training job {name!r}.", operation)
        return found


def _refuse_what_needs_aws(request: Request, operation: str) -> None:
    """Say no to what processes on one machine cannot do, instead of doing something else."""

    def refuse(problem: str, fix: str) -> ServiceError:
        return ServiceError(f"{problem} is not possible with the process target. {fix}", operation)

    for key in ("AlgorithmSpecification", "OutputDataConfig", "ResourceConfig"):
        if key not in request:
            raise ServiceError(f"Missing required parameter: {key}", operation)
    algorithm = request["AlgorithmSpecification"]
    if "AlgorithmName" in algorithm:
        raise refuse("A marketplace algorithm (AlgorithmName)", "Name a TrainingImage.")
    modes = {channel.get("InputMode") for channel in request.get("InputDataConfig", [])}
    if "Pipe" in modes | {algorithm["TrainingInputMode"]}:
        raise refuse("TrainingInputMode Pipe", "Use File or FastFile.")
    resources = request["ResourceConfig"]
    if resources.get("InstanceCount", 1) > 1 or "InstanceGroups" in resources:
        raise refuse(
            f"ResourceConfig.InstanceCount {resources.get('InstanceCount')}",
            "Set it to 1 (training.instances.count), or use --target sagemaker.",
        )
    local = request.get("CheckpointConfig", {}).get("LocalPath", CHECKPOINTS_PATH)
    if not local.startswith("/opt/ml/"):
        raise refuse(
            f"CheckpointConfig.LocalPath {local!r}", "Leave it out, or name one below /opt/ml."
        )


def _require_inputs(request: Request, operation: str) -> None:
    """Every channel's data must exist, as SageMaker demands before it starts anything."""
    uris.to_path(request["OutputDataConfig"]["S3OutputPath"], "OutputDataConfig.S3OutputPath")
    if "CheckpointConfig" in request:
        uris.to_path(request["CheckpointConfig"]["S3Uri"], "CheckpointConfig.S3Uri")
    for channel in request.get("InputDataConfig", []):
        where = f"InputDataConfig.{channel['ChannelName']}"
        source = channel["DataSource"].get("S3DataSource")
        if source is None or source["S3DataType"] != "S3Prefix":
            raise ServiceError(
                f"{where}: the process target reads S3DataType S3Prefix only, with a file:// URI "
                "of a file or directory",
                operation,
            )
        if channel.get("CompressionType", "None") != "None":
            raise ServiceError(f"{where}: CompressionType is for Pipe mode only", operation)
        path = uris.to_path(source["S3Uri"], where)
        if not path.exists():
            raise ServiceError(
                f"{where}: No S3 objects found under S3 URL {source['S3Uri']!r}: "
                f"there is no file or directory {str(path)!r}",
                operation,
            )
        if path.is_dir() and not any(path.iterdir()):
            raise ServiceError(
                f"{where}: No S3 objects found under S3 URL {source['S3Uri']!r}: "
                "the directory is empty",
                operation,
            )
