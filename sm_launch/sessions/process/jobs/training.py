"""Training jobs: create, describe, stop, list."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from sm_launch.errors import LaunchError
from sm_launch.sessions.errors import RESOURCE_IN_USE, VALIDATION, ServiceError
from sm_launch.sessions.process import store, uris
from sm_launch.sessions.process.base import Machine, Request, Response
from sm_launch.sessions.process.jobs.metrics import MetricScan
from sm_launch.sessions.process.jobs.training_run import CHECKPOINTS_PATH
from sm_launch.sessions.process.resources import Jobs
from sm_launch.sessions.process.runs import transition
from sm_launch.sessions.process.store import Record, State
from sm_launch.sessions.references import require as require_references


class TrainingJobs(Jobs):
    """What `train` runs."""

    directory = store.TRAINING_JOBS
    resource = "training-job"
    word = "training job"
    prefix = "TrainingJob"
    listed = "TrainingJobSummaries"
    summary = ("CreationTime", "TrainingEndTime", "LastModifiedTime", "TrainingJobStatus",
               "SecondaryStatus")  # fmt: skip
    end = ("TrainingEndTime", "LastModifiedTime")
    after_death = (
        "; its processes were ended. Start a new job; with the same CheckpointConfig it resumes."
    )
    missing = ("Requested resource not found: training job {name!r}.", VALIDATION)
    taken = (
        "Training job names must be unique within an AWS account and region, and a "
        "training job with this name already exists ({arn})",
        RESOURCE_IN_USE,
    )

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine)
        # One a job, so that following a job does not read its whole log at every look.
        self._metric_scans: dict[Path, MetricScan] = {}

    def create(self, **request: Any) -> Response:
        """Start a training job; it runs on after the call.

        Raises:
            RequestError, ServiceError: the request is not one that SageMaker takes, the data does
                not exist, or there is a job of that name.
            UserInputError: the request is valid but cannot be run by processes on this machine.
        """
        return {"TrainingJobArn": self.start(request)}

    def start(self, request: Request, **state: Any) -> str:
        """The same for a request as a dict; `state` is added to what describe shows.

        Returns:
            The job's ARN.
        """
        self.check(request, "CreateTrainingJob")
        now = time.time()
        output = request["OutputDataConfig"]
        packed = output.get("CompressionType", "GZIP") == "GZIP"
        artefact = uris.join(
            output["S3OutputPath"],
            request["TrainingJobName"],
            "output",
            "model.tar.gz" if packed else "model/",
        )
        first = {
            "SecondaryStatus": "Starting",
            "SecondaryStatusTransitions": [
                {"Status": "Starting", "StartTime": now, "StatusMessage": "Starting the job"}
            ],
            "LastModifiedTime": now,
            "ModelArtifacts": {"S3ModelArtifacts": artefact},
        }
        return self.begin(request, {}, {**first, **state})

    def check(self, request: Request, operation: str) -> None:
        """Refuse a job that could not run here, before anything starts.

        Args:
            request: of CreateTrainingJob.
            operation: what was asked for.
        """
        machine = self._machine
        machine.validator.check("CreateTrainingJob", request)
        require_references(request.get("Environment", {}))
        _refuse_what_needs_aws(request, operation, several_hosts=machine.several_hosts)
        _require_inputs(request, operation)
        image = request["AlgorithmSpecification"].get("TrainingImage", "")
        machine.require(machine.settings.train_command, [image], operation)

    def description(self, record: Record, state: State) -> Response:
        """With the metrics so far."""
        if "FinalMetricDataList" not in state:
            scan = self._metric_scans.get(record.path)
            if scan is None:
                algorithm = record.read("request")["request"]["AlgorithmSpecification"]
                scan = MetricScan(record.log_path, algorithm.get("MetricDefinitions", []))
                self._metric_scans[record.path] = scan
            state["FinalMetricDataList"] = scan.final_metrics()
        return super().description(record, state)

    def failed(self, state: State) -> State:
        """See Resources; with the last transition."""
        transitions = [*state["SecondaryStatusTransitions"]]
        transition(transitions, "Failed", "Training job failed")
        more = {"SecondaryStatus": "Failed", "SecondaryStatusTransitions": transitions}
        return {**super().failed(state), **more}


def _refuse_what_needs_aws(request: Request, operation: str, *, several_hosts: bool) -> None:
    """Say no to what cannot be done on one machine, instead of doing something else."""

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
    several = resources.get("InstanceCount", 1) > 1
    if (several and not several_hosts) or "InstanceGroups" in resources:
        raise refuse(
            f"ResourceConfig.InstanceCount {resources.get('InstanceCount')}",
            "Set it to 1 (training.instances.count), or use --target sagemaker.",
        )
    if several and request.get("EnableNetworkIsolation"):
        raise LaunchError(
            "hosts that are cut off from the network cannot train together",
            field="EnableNetworkIsolation",
            value=True,
            fix="set training.instances.count to 1, or network.isolation to false",
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
