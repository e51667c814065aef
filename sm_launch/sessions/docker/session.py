"""The Docker session: the process session with containers in the place of processes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from sm_launch.errors import LaunchError
from sm_launch.sessions.docker import engine
from sm_launch.sessions.process.async_runtime import AsyncRuntime
from sm_launch.sessions.process.base import Request, Response, Settings
from sm_launch.sessions.process.store import Record
from sm_launch.sessions.process.tags import Tags
from sm_launch.sessions.process.transform import TransformJobs
from sm_launch.sessions.process.tuning import TuningJobs

# Beyond SageMaker's own grace times: collecting output and removing containers and network.
_CLEAN_UP_SECONDS = 30
_CONTAINER_MODULE = "sm_launch.sessions.docker.container"
# The supervised programs get a small environment; these decide which engine they talk to.
_ENGINE_VARIABLES = ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "DOCKER_TLS_VERIFY",
                     "DOCKER_CERT_PATH")  # fmt: skip


class DockerSession(TuningJobs, TransformJobs, AsyncRuntime, Tags):
    """SageMaker's client methods, run in containers of the real images on this machine.

    Args:
        home: where jobs, models and endpoints keep their state.
        training_grace: seconds between SIGTERM and SIGKILL of a training container.
        endpoint_grace: the same of a serving container.
    """

    def __init__(
        self, home: Path, *, training_grace: float = 120, endpoint_grace: float = 30
    ) -> None:
        settings = Settings(
            train_command=_command("train", training_grace),
            serve_command=_command("serve", endpoint_grace),
            training_grace=training_grace + _CLEAN_UP_SECONDS,
            endpoint_grace=endpoint_grace + _CLEAN_UP_SECONDS,
        )
        super().__init__(home, settings)

    def _check_training_request(self, request: Request, operation: str) -> None:
        resources = request.get("ResourceConfig", {})
        if resources.get("InstanceCount", 1) > 1 and request.get("EnableNetworkIsolation"):
            raise LaunchError(
                "hosts that are cut off from the network cannot train together",
                field="EnableNetworkIsolation",
                value=True,
                fix="set training.instances.count to 1, or network.isolation to false",
            )
        # What processes cannot do and containers can is hidden from the check of the former.
        one_host = {**request, "ResourceConfig": {**resources, "InstanceCount": 1}}
        super()._check_training_request(one_host, operation)
        require_image(request["AlgorithmSpecification"]["TrainingImage"])
        self._sweep()

    def create_endpoint(self, **request: Any) -> Response:
        """Start serving; returns while the endpoint is still `Creating`."""
        self._require_images(request["EndpointConfigName"], "CreateEndpoint")
        return super().create_endpoint(**request)

    def update_endpoint(self, **request: Any) -> Response:
        """Move an endpoint to another configuration while it goes on answering."""
        self._require_images(request["EndpointConfigName"], "UpdateEndpoint")
        return super().update_endpoint(**request)

    def create_transform_job(self, **request: Any) -> Response:
        """Start a transform job in a container of its own; it runs on after the call."""
        model = self.describe_model(ModelName=request["ModelName"])
        require_image(model["PrimaryContainer"].get("Image", ""))
        self._sweep()
        return super().create_transform_job(**request)

    def _require_images(self, config: str, operation: str) -> None:
        for variant in self._deployment(config, operation)["variants"]:
            require_image(variant["container"].get("Image", ""))
        self._sweep()

    def create_hyper_parameter_tuning_job(self, **request: Any) -> Response:
        """Not possible with containers yet.

        Raises:
            LaunchError: always.
        """
        raise LaunchError(
            "sweeps do not run with the docker target",
            value=request["HyperParameterTuningJobName"],
            fix="use --target process or sagemaker",
        )

    def _sweep(self) -> None:
        """Remove containers whose watcher was killed: nobody else would."""
        for directory in engine.watched_directories():
            path = Path(directory)
            if self._store.home not in path.parents:
                continue
            records = [at for at in (path, *path.parents) if (at / "request.json").is_file()]
            lock = Record(records[0]).lock() if records else None
            if lock is not None:
                os.close(lock)
            if lock is not None or not records:
                engine.remove_containers(directory)


def require_image(image: str) -> None:
    """Refuse early when Docker, the SDK or the image is missing.

    Raises:
        LaunchError: naming what is missing and the command that brings it.
    """
    engine.require_engine()
    if _sdk_is_missing():
        raise LaunchError(
            "the docker target needs SageMaker's SDK, which is not installed",
            field="--target",
            value="docker",
            fix="`make setup-docker` in a checkout, or pip install 'sm-launch[docker]'",
        )
    found = subprocess.run(["docker", "image", "inspect", image], capture_output=True, check=False)
    if found.returncode:
        raise LaunchError(
            "there is no such image on this machine",
            field="image",
            value=image,
            fix="run `make build`, or `docker pull` it",
        )


def _sdk_is_missing() -> bool:
    from importlib.util import find_spec

    return find_spec("sagemaker") is None or find_spec("sagemaker.core") is None


def _command(program: str, grace: float) -> list[str]:
    variables = [f"{key}={os.environ[key]}" for key in _ENGINE_VARIABLES if key in os.environ]
    python = [sys.executable, "-m", _CONTAINER_MODULE, program, str(round(grace))]
    source = f"PYTHONPATH={Path(__file__).resolve().parents[3]}"
    return [shutil.which("env") or "/usr/bin/env", source, *variables, *python]
