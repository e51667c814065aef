"""One training job, from its request to its artefacts, as hosted SageMaker runs it."""

from __future__ import annotations

import shutil
import socket
import time
from pathlib import Path
from typing import Any

from sm_launch.sessions.process import artefacts, environment, uris
from sm_launch.sessions.process.children import Child
from sm_launch.sessions.process.environment import OFFLINE
from sm_launch.sessions.process.jobs.metrics import MetricScan
from sm_launch.sessions.process.runs import POLL_SECONDS, Termination, shorten, transition
from sm_launch.sessions.process.store import Record, write_json

HOST = "algo-1"
"""The name of the only host, as hosted SageMaker gives it."""

CHECKPOINTS_PATH = "/opt/ml/checkpoints"
"""CheckpointConfig.LocalPath, where the request names none."""


def base_directory(record: Record) -> Path:
    """What stands for /opt/ml."""
    return record.path / "opt" / "ml"


class TrainingRun:
    """Runs the job of a record to its end; what happens is written to its state."""

    def __init__(self, record: Record, termination: Termination) -> None:
        loaded = record.read("request")
        self._record = record
        self._termination = termination
        self._request: dict[str, Any] = loaded["request"]
        self._settings: dict[str, Any] = loaded["settings"]
        self._transitions: list[dict[str, Any]] = record.read("state")["SecondaryStatusTransitions"]
        self._base = base_directory(record)

    def run(self) -> None:
        """To the end."""
        self._enter("Downloading", "Linking the input data")
        try:
            self._prepare()
        except OSError as error:
            self._finish("Failed", reason=f"ClientError: Data download failed: {error}")
            return
        self._enter("Training", "Training in progress", TrainingStartTime=time.time())
        try:
            child = self._start()
        except OSError as error:
            self._finish("Failed", reason=f"ClientError: the container did not start: {error}")
            return
        stopped_by, exit_code = self._wait(child)
        ended = time.time()
        self._upload(stopped_by, exit_code, ended)

    def _enter(self, status: str, message: str, **changes: Any) -> None:
        transition(self._transitions, status, message)
        self._record.update(
            SecondaryStatus=status,
            SecondaryStatusTransitions=self._transitions,
            LastModifiedTime=time.time(),
            **changes,
        )

    def _prepare(self) -> None:
        for part in ("input/config", "input/data", "model", "output/data", "code", "tmp"):
            (self._base / part).mkdir(parents=True, exist_ok=True)
        for channel in self._request.get("InputDataConfig", []):
            uri = channel["DataSource"]["S3DataSource"]["S3Uri"]
            target = self._base / "input" / "data" / channel["ChannelName"]
            artefacts.link_tree(uris.to_path(uri, "InputDataConfig"), target)
        checkpoints = self._request.get("CheckpointConfig")
        if checkpoints:
            directory = uris.to_path(checkpoints["S3Uri"], "CheckpointConfig.S3Uri")
            directory.mkdir(parents=True, exist_ok=True)
            local = self._local(checkpoints.get("LocalPath", CHECKPOINTS_PATH))
            local.parent.mkdir(parents=True, exist_ok=True)
            local.symlink_to(directory, target_is_directory=True)
        for name, contents in self._config_files().items():
            write_json(self._base / "input" / "config" / f"{name}.json", contents)

    def _local(self, path: str) -> Path:
        """A path of the container, moved below the base directory."""
        return self._base / Path(path).relative_to("/opt/ml")

    def _config_files(self) -> dict[str, Any]:
        """Input/config, with the contents that hosted SageMaker gives them."""
        instance_type = self._request["ResourceConfig"].get("InstanceType", "local")
        group = {
            "instance_group_name": "homogeneousCluster",
            "instance_type": instance_type,
            "hosts": [HOST],
        }
        files: dict[str, Any] = {
            "hyperparameters": environment.local_hyperparameters(
                self._request.get("HyperParameters", {}), self._base
            ),
            "resourceconfig": {
                "current_host": HOST,
                "current_instance_type": "local",  # whose devices are this machine's
                "current_group_name": "homogeneousCluster",
                "hosts": [HOST],
                "instance_groups": [group],
                "network_interface_name": _loopback(),
            },
            "inputdataconfig": {
                channel["ChannelName"]: self._channel_config(channel)
                for channel in self._request.get("InputDataConfig", [])
            },
        }
        if checkpoints := self._request.get("CheckpointConfig"):
            local = self._local(checkpoints.get("LocalPath", CHECKPOINTS_PATH))
            files["checkpointconfig"] = {"S3Uri": checkpoints["S3Uri"], "LocalPath": str(local)}
        return files

    def _channel_config(self, channel: dict[str, Any]) -> dict[str, str]:
        mode = self._request["AlgorithmSpecification"]["TrainingInputMode"]
        config = {
            "TrainingInputMode": channel.get("InputMode", mode),
            "S3DistributionType": "FullyReplicated",
            "RecordWrapperType": "None",
        }
        if "ContentType" in channel:
            config["ContentType"] = channel["ContentType"]
        return config

    def _start(self) -> Child:
        algorithm = self._request["AlgorithmSpecification"]
        # The images have no entry point of their own: arguments alone replace the command.
        own = [*algorithm.get("ContainerEntrypoint", []), *algorithm.get("ContainerArguments", [])]
        variables = environment.training_environment(
            self._base,
            self._request.get("Environment", {}),
            self._request.get("HyperParameters", {}),
            name=self._request["TrainingJobName"],
            arn=self._record.read("state")["TrainingJobArn"],
        )
        if self._request.get("EnableNetworkIsolation"):
            variables = self._isolated(variables)
        return Child(
            own or self._settings["train_command"],
            env=variables,
            cwd=self._base / "tmp",
            log_path=self._record.log_path,
        )

    def _isolated(self, variables: dict[str, str]) -> dict[str, str]:
        """Isolation as far as processes have it; the log says that it is not the real thing."""
        with self._record.log_path.open("a") as log:
            log.write(
                "sm-launch: processes on this machine cannot be cut off from the network; "
                "HF_HUB_OFFLINE=1 is set in place of EnableNetworkIsolation\n"
            )
        return {**variables, **OFFLINE}

    def _wait(self, child: Child) -> tuple[str | None, int]:
        """Wait for the end; returns what stopped the job, if anything did, and the exit code."""
        limit = self._request["StoppingCondition"].get("MaxRuntimeInSeconds", float("inf"))
        deadline = time.monotonic() + limit
        while (code := child.exit_code()) is None:
            if self._record.stop_requested or self._termination.requested:
                self._enter("Stopping", "Stopping the training job", TrainingJobStatus="Stopping")
                return "Stopped", child.stop(self._settings["training_grace"])
            if time.monotonic() > deadline:
                self._enter("Stopping", "MaxRuntimeInSeconds is over", TrainingJobStatus="Stopping")
                return "MaxRuntimeExceeded", child.stop(self._settings["training_grace"])
            time.sleep(POLL_SECONDS)
        child.kill()
        return None, code

    def _upload(self, stopped_by: str | None, exit_code: int, ended: float) -> None:
        """Store what the job wrote; a failed job has no model, but its output/data is kept."""
        if exit_code == 0 or stopped_by:
            self._enter("Uploading", "Storing the generated training model", TrainingEndTime=ended)
        try:
            self._store_output(with_model=exit_code == 0 or stopped_by is not None)
        except OSError as error:
            self._finish("Failed", reason=f"ClientError: Artifact upload failed: {error}")
            return
        if stopped_by:
            self._finish("Stopped", secondary=stopped_by, ended=ended)
        elif exit_code == 0:
            self._finish("Completed", ended=ended)
        else:
            self._finish("Failed", reason=self._failure_reason(exit_code), ended=ended)

    def _store_output(self, *, with_model: bool) -> None:
        output = self._request["OutputDataConfig"]
        root = uris.to_path(output["S3OutputPath"], "OutputDataConfig.S3OutputPath")
        target = root / self._record.name / "output"
        packed = output.get("CompressionType", "GZIP") == "GZIP"
        parts = [(self._base / "model", "model")] if with_model else []
        data = self._base / "output" / "data"
        if any(data.iterdir()):
            parts.append((data, "output" if packed else "data"))
        for source, name in parts:
            if packed:
                artefacts.pack(source, target / f"{name}.tar.gz")
            else:
                shutil.copytree(source, target / name, dirs_exist_ok=True)

    def _failure_reason(self, exit_code: int) -> str:
        failure = self._base / "output" / "failure"
        text = failure.read_text(errors="replace").strip() if failure.is_file() else ""
        if text:
            return text
        tail = artefacts.last_lines(self._record.log_path, 800)
        return f"AlgorithmError: exit code: {exit_code}. Last log lines: {tail or '(none)'}"

    def _finish(
        self,
        status: str,
        *,
        secondary: str | None = None,
        reason: str | None = None,
        ended: float | None = None,
    ) -> None:
        definitions = self._request["AlgorithmSpecification"].get("MetricDefinitions", [])
        started = self._record.read("state").get("TrainingStartTime")
        ended = ended or time.time()
        self._enter(
            secondary or status,
            f"Training job {status.lower()}",
            TrainingJobStatus=status,
            FailureReason=shorten(reason) if reason else None,
            TrainingEndTime=ended,
            TrainingTimeInSeconds=max(1, round(ended - started)) if started else None,
            FinalMetricDataList=MetricScan(self._record.log_path, definitions).final_metrics(),
        )


def _loopback() -> str:
    """The interface that a single host talks to itself over; hosted SageMaker says eth0."""
    names = [name for _, name in socket.if_nameindex()]
    return next((name for name in names if name.startswith("lo")), names[0] if names else "lo")
