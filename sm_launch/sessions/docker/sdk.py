"""SageMaker's `LocalSession` (sagemaker-core), with what it lacks for our purposes.

Left alone it prints compose's prefixes into the log, loses the last lines, packs artefacts twice,
ignores CheckpointConfig and EnableNetworkIsolation, mounts /opt/ml/model writable for a server,
publishes its port on every interface, and leaves containers and a shared network behind.
All of it is mended at one place: the compose file that it writes, and the output that it reads.
"""

from __future__ import annotations

import json
import os
import queue
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from sm_launch.sessions.docker import engine
from sm_launch.sessions.process.environment import OFFLINE

_REGION = "us-east-1"
_SHARED_MEMORY = "2gb"  # Docker's 64 MB break data loader workers and NCCL
_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_PREFIX = re.compile(r"^[\w.-]*algo-\d+-\w+ +\| ?")
_COMPOSE_NOISE = re.compile(
    r"^(time=\".*|\s*(Network|Container) \S+ +\S+\s*|Attaching to .*|Aborting on container exit.*"
    r"|[\w.-]*algo-\d+-\w+ exited with code \d+)?\r?$"
)
# The last one: the training toolkit would wait up to 15 minutes for the host's DNS name.
ISOLATED = {**OFFLINE, "SM_STUDIO_LOCAL_MODE": "true"}
"""Environment of containers that are to reach nothing."""


class ContainerError(Exception):
    """A container ended with an exit code other than 0."""

    def __init__(self, code: int) -> None:
        super().__init__(f"the container ended with exit code {code}")
        self.code = code


@dataclass
class Plan:
    """What a run needs beyond the request that the SDK understands.

    Attributes:
        owner: directory of the job or server, with which its containers are labelled.
        base: what stands for /opt/ml; model and output are brought there.
        mounts: further directories, by their path in the container.
        isolated: no network at all.
        user: who is to own what the container wrote; None where that is root.
        port: where a server is published on this machine.
        ended: receives the exit code of a server.
    """

    owner: str
    base: Path
    user: tuple[int, int] | None
    mounts: dict[str, Path] = field(default_factory=dict)
    isolated: bool = False
    port: int | None = None
    ended: queue.Queue[int] = field(default_factory=queue.Queue)


def open_session(plan: Plan, directory: Path) -> Any:
    """A LocalSession that works below `directory`, needs no credentials and sends no telemetry."""
    directory.mkdir(parents=True, exist_ok=True)
    opt_out = directory / "sagemaker.yaml"
    modules = {"Modules": {"TelemetryOptOut": True}}
    opt_out.write_text(
        yaml.safe_dump({"SchemaVersion": "1.0", "SageMaker": {"PythonSDK": modules}})
    )
    os.environ["SAGEMAKER_USER_CONFIG_OVERRIDE"] = str(opt_out)
    os.environ.setdefault("SAGEMAKER_ADMIN_CONFIG_OVERRIDE", str(opt_out))
    import boto3
    from sagemaker.core.local import entities, image, local_session

    container = _container_class(plan, image)
    for module in (entities, local_session):
        module._SageMakerContainer = container
    image._stream_output = lambda process: _stream(process, plan)
    session = local_session.LocalSession(boto3.Session(region_name=_REGION))
    local: dict[str, Any] = {
        "local_code": True,
        "container_root": str(directory),
        "container_config": {"shm_size": _SHARED_MEMORY},
    }
    if plan.port:
        local["serving_port"] = plan.port
    session.config = {"local": local}
    return session


def quoted(hyperparameters: dict[str, str]) -> dict[str, str]:
    """The SDK reads sagemaker_submit_directory as JSON; a plain string is as legal on SageMaker."""
    key = "sagemaker_submit_directory"
    value = hyperparameters.get(key)
    if value is None or value.startswith('"'):
        return hyperparameters
    return {**hyperparameters, key: json.dumps(value)}


def _container_class(plan: Plan, image: Any) -> Any:
    class Container(image._SageMakerContainer):  # type: ignore[misc]
        """The SDK's container set, its compose file adapted and its output kept in `plan.base`."""

        def write_config_files(self, host: str, *arguments: Any) -> None:
            super().write_config_files(host, *arguments)
            if plan.mounts:
                config = Path(self.container_root, host, "input", "config", "checkpointconfig.json")
                config.write_text(json.dumps({"LocalPath": next(iter(plan.mounts))}))

        def _generate_compose_file(self, command: str, **options: Any) -> Any:
            content = super()._generate_compose_file(command, **options)
            adapted = adapt(content, command, plan)
            path = Path(self.container_root, image.DOCKER_COMPOSE_FILENAME)
            path.write_text(yaml.safe_dump(adapted))
            return content

        def retrieve_artifacts(self, *arguments: Any) -> str:
            """Bring model and output to the base directory, from every host."""
            root = Path(self.container_root)
            if plan.user:
                roots = [str(root), *map(str, plan.mounts.values())]
                engine.take_over(self.image, roots, *plan.user)
            _bring(root / "model", plan.base / "model")
            for host in self.hosts:
                _bring(root / host / "output", plan.base / "output")
            return str(plan.base)

    return Container


def adapt(content: dict[str, Any], command: str, plan: Plan) -> dict[str, Any]:
    """The SDK's compose file as a new dict, with our labels, network, ports and mounts."""
    services = {}
    for name, original in content["services"].items():
        volumes = [*original["volumes"], *(f"{path}:{at}" for at, path in plan.mounts.items())]
        if command == "serve":
            volumes = [f"{v}:ro" if v.endswith(":/opt/ml/model") else v for v in volumes]
        # No terminal: progress bars would draw themselves into the log.
        service = {
            **original,
            "volumes": volumes,
            "tty": False,
            "stdin_open": False,
            "labels": {engine.LABEL: plan.owner},
        }
        if plan.port:
            service["ports"] = [f"127.0.0.1:{plan.port}:8080"]
        if plan.isolated:
            del service["networks"]
            service["network_mode"] = "none"
            offline = [f"{key}={value}" for key, value in ISOLATED.items()]
            service["environment"] = [*service["environment"], *offline]
        services[name] = service
    adapted: dict[str, Any] = {"services": services}
    if not plan.isolated:
        # A network for each run: it can go when the run is over.
        own = "sm-launch-" + next(iter(services))
        adapted["networks"] = {"sagemaker-local": {"name": own}}
    return adapted


def _bring(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True, copy_function=_move)


def _move(source: str, target: str) -> None:
    Path(source).replace(target)


def _stream(process: subprocess.Popen[bytes], plan: Plan) -> int:
    """Pass on what the containers write, to the last line.

    Raises:
        ContainerError: the containers ended with another code than 0.
    """
    # A server's compose has a stderr of its own: why it could not start stands there.
    for stream in filter(None, (process.stdout, process.stderr)):
        for raw in stream:
            line = _ANSI.sub("", raw.decode("utf-8", "replace")).rstrip("\r\n")
            if not _COMPOSE_NOISE.match(line):
                sys.stdout.write(_PREFIX.sub("", line) + "\n")
                sys.stdout.flush()
    code = process.wait()
    plan.ended.put(code)
    if code:
        raise ContainerError(code)
    return code
