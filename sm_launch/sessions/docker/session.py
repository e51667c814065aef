"""The Docker session: the process session with containers in the place of processes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sm_launch.errors import LaunchError
from sm_launch.sessions.docker import engine
from sm_launch.sessions.process.base import Machine, Response, Settings
from sm_launch.sessions.process.session import ProcessSession
from sm_launch.sessions.process.store import Record

# Beyond SageMaker's own grace times: collecting output and removing containers and network.
_CLEAN_UP_SECONDS = 30
_CONTAINER_MODULE = "sm_launch.sessions.docker.container"
# The supervised programs get a small environment; these decide which engine they talk to.
_ENGINE_VARIABLES = ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "DOCKER_TLS_VERIFY",
                     "DOCKER_CERT_PATH")  # fmt: skip


class DockerMachine(Machine):
    """A machine whose jobs and servers are containers."""

    several_hosts = True

    def require(self, command: list[str], images: Iterable[str], operation: str) -> None:
        """Refuse what has no image here, and tidy up before more is started.

        Raises:
            LaunchError: naming what is missing and the command that brings it.
        """
        for image in images:
            require_image(image)
        self._sweep()

    def _sweep(self) -> None:
        """Remove containers whose watcher was killed: nobody else would."""
        for directory in engine.watched_directories():
            path = Path(directory)
            if self.store.home not in path.parents:
                continue
            records = [at for at in (path, *path.parents) if (at / "request.json").is_file()]
            lock = Record(records[0]).lock() if records else None
            if lock is not None:
                os.close(lock)
            if lock is not None or not records:
                engine.remove_containers(directory)


class DockerSession(ProcessSession):
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
        super().__init__(home, settings, kind=DockerMachine)
        self.create_hyper_parameter_tuning_job = _refuse_sweep


def _refuse_sweep(**request: Any) -> Response:
    """Not possible with containers yet. Raises LaunchError."""
    raise LaunchError(
        "sweeps do not run with the docker target",
        value=request["HyperParameterTuningJobName"],
        fix="use --target process or sagemaker",
    )


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
    inspected = subprocess.run(
        ["docker", "image", "inspect", image], capture_output=True, check=False
    )
    if inspected.returncode:
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
