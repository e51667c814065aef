"""One request in its containers: `python -m …container train|serve GRACE`.

This is the program that the supervisor of a job or endpoint starts where the process session starts
`train` or `serve`: it has the same base directory, gets the same SIGTERM, and its output and exit
code are the container's.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from sm_launch.sessions.docker import engine, sdk
from sm_launch.sessions.process.hosting.endpoint_run import PENDING_UPDATE
from sm_launch.sessions.process.jobs.training_run import CHECKPOINTS_PATH
from sm_launch.sessions.process.store import Record
from sm_launch.sessions.process.uris import to_path
from sm_launch.sessions.references import inherited

_GPU_FAMILIES = ("ml.g", "ml.p", "local_gpu")


def main(program: str, grace: int) -> int:
    """Run until the container has ended; returns its exit code."""
    base = Path(os.environ["SAGEMAKER_BASE_DIR"])
    owner = str(base.parent.parent)
    record = Record(record_directory(base))

    def stop(signum: int, frame: FrameType | None) -> None:
        engine.stop_containers(owner, grace)

    signal.signal(signal.SIGTERM, stop)
    run: Callable[[Record, Path], int] = _train if program == "train" else _serve
    try:
        return run(record, base)
    finally:
        engine.remove_containers(owner)


def record_directory(inside: Path) -> Path:
    """The record that a directory of a run lies in."""
    return next(path for path in inside.parents if (path / "request.json").is_file())


def _train(record: Record, base: Path) -> int:
    request = record.read("request")["request"]
    checkpoints = request.get("CheckpointConfig", {})
    mounts = {}
    if checkpoints:
        local = checkpoints.get("LocalPath", CHECKPOINTS_PATH)
        mounts[local] = to_path(checkpoints["S3Uri"], "CheckpointConfig.S3Uri")
    plan = sdk.Plan(
        owner=str(record.path),
        base=base,
        mounts=mounts,
        isolated=request.get("EnableNetworkIsolation", False),
        user=_owner(),
    )
    session = sdk.open_session(plan, record.path / "containers")
    # Inputs of the record are links, which a container cannot follow: mount their origin.
    resources = request["ResourceConfig"]
    try:
        session.sagemaker_client.create_training_job(
            TrainingJobName=request["TrainingJobName"],
            AlgorithmSpecification=request["AlgorithmSpecification"],
            OutputDataConfig={"S3OutputPath": ""},
            ResourceConfig={
                "InstanceType": _instance(resources.get("InstanceType", "local")),
                "InstanceCount": resources.get("InstanceCount", 1),
            },
            InputDataConfig=request.get("InputDataConfig", []),
            Environment=inherited(request.get("Environment", {})),
            HyperParameters=sdk.quoted(request.get("HyperParameters", {})),
        )
    except sdk.ContainerError as error:
        return error.code
    finally:
        shutil.rmtree(record.path / "containers", ignore_errors=True)
    return 0


def _serve(record: Record, base: Path) -> int:
    container, variant = _deployed(record, base)
    port = int(os.environ["SAGEMAKER_BIND_TO_PORT"])
    plan = sdk.Plan(owner=str(base.parent.parent), base=base, user=_owner(), port=port)
    session = sdk.open_session(plan, base.parent / "containers")
    client = session.sagemaker_client
    client.create_model(
        ModelName=record.name,
        PrimaryContainer={
            "Image": container["Image"],
            "ModelDataUrl": _model(container, base).as_uri(),
            "Environment": inherited(container.get("Environment", {})),
        },
    )
    kind = _instance(variant.get("InstanceType", "local"))
    client.create_endpoint_config(
        EndpointConfigName=record.name,
        ProductionVariants=[{**variant, "ModelName": record.name, "InstanceType": kind}],
    )
    # The SDK would wait for /ping; the supervisor does that, and better.
    threading.Thread(target=_create_endpoint, args=(client, record.name), daemon=True).start()
    return plan.ended.get()


def _deployed(record: Record, base: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Container definition and variant of the server whose base directory is `base`."""
    contents = record.read("request")
    if "container" in contents:  # a transform job
        request, container = contents["request"], contents["container"]
        added = {**request.get("Environment", {}), "SAGEMAKER_BATCH": "true"}
        resources = request["TransformResources"]
        variant = {"VariantName": "batch", "InstanceType": resources["InstanceType"],
                   "InitialInstanceCount": 1}  # fmt: skip
    else:
        # While an update is pending, only its servers are started.
        newest = record.read(PENDING_UPDATE) if record.has(PENDING_UPDATE) else contents
        name = base.parent.parent.name
        (chosen,) = (
            each
            for each in newest["deployment"]["variants"]
            if each["variant"]["VariantName"] == name
        )
        container, variant = chosen["container"], chosen["variant"]
        # A port cannot be published from a container without a network; the Hub is out of reach.
        added = sdk.ISOLATED if chosen["isolated"] else {}
    environment = {**container.get("Environment", {}), **added}
    return {**container, "Environment": environment}, variant


def _create_endpoint(client: Any, name: str) -> None:
    try:
        client.create_endpoint(EndpointName=name, EndpointConfigName=name)
    except Exception as error:
        # A container that ended has told its exit code already.
        sys.stderr.write(f"{type(error).__name__}: {error}\n")


def _model(container: dict[str, Any], base: Path) -> Path:
    """A directory of real files: the artefact itself, or what the supervisor unpacked."""
    source = container.get("ModelDataSource", {}).get("S3DataSource", {}).get("S3Uri")
    location = container.get("ModelDataUrl", source)
    path = to_path(location, "ModelDataUrl") if location else base / "model"
    return path if path.is_dir() else base / "model"


def _instance(kind: str) -> str:
    gpu = kind.startswith(_GPU_FAMILIES)
    # A hosted GPU type on a machine without one: the CPU flavour still shows that the job runs.
    return "local_gpu" if gpu and shutil.which("nvidia-smi") else "local"


def _owner() -> tuple[int, int] | None:
    return (os.getuid(), os.getgid()) if os.getuid() else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
