"""What a training job leaves under its output path, found from the model that is served."""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path
from typing import Any

from sm_launch.aws.paging import every
from sm_launch.errors import UserInputError
from sm_launch.hosting.served_models import model_of_container
from sm_launch.sessions.protocol import Session
from sm_launch.target.staging import local_path

TRAINING_LOG = "training_log.jsonl"


def model_uri(session: Any, endpoint: str) -> str:
    """Where the model of an endpoint's first variant comes from: hf:// where it is of the Hub, and
    empty where nothing says."""
    description = session.describe_endpoint(EndpointName=endpoint)
    endpoint_config = session.describe_endpoint_config(
        EndpointConfigName=description["EndpointConfigName"]
    )
    name = endpoint_config["ProductionVariants"][0].get("ModelName")
    if name is None:  # its instances have components, of which the base has the endpoint's name
        component = session.describe_inference_component(InferenceComponentName=endpoint)
        name = component["Specification"].get("ModelName")
    if name is None:
        return ""
    described = session.describe_model(ModelName=name)
    container = described.get("PrimaryContainer") or (described.get("Containers") or [{}])[0]
    return model_of_container(container)


def addressed(session: Any, endpoint: str) -> dict[str, str]:
    """What a request to an endpoint must say besides its name.

    Raises UserInputError for an endpoint that does not answer at once, or has no model of its own.
    """
    description = session.describe_endpoint(EndpointName=endpoint)
    endpoint_config = session.describe_endpoint_config(
        EndpointConfigName=description["EndpointConfigName"]
    )
    if "AsyncInferenceConfig" in {**endpoint_config, **description}:
        raise UserInputError(
            "is asynchronous: it queues requests, and has neither a latency nor a load to measure",
            field="--endpoint",
            value=endpoint,
            fix="run `sm-launch transform` and evaluate with --transform-output, or deploy without "
            "endpoint.asynchronous",
        )
    if "ModelName" in endpoint_config["ProductionVariants"][0]:
        return {}
    components = every(
        session.list_inference_components, "InferenceComponents", EndpointNameEquals=endpoint
    )
    names = [str(each["InferenceComponentName"]) for each in components]
    if endpoint not in names:
        raise UserInputError(
            f"has inference components ({', '.join(names) or 'none yet'}) and none of its own name",
            field="--endpoint",
            value=endpoint,
            fix="deploy it by sm-launch, whose base component has the endpoint's name",
        )
    return {"InferenceComponentName": endpoint}


def deployment(session: Session, endpoint: str) -> str:
    """What tells one deployment of an endpoint from the next: its configuration, its variants and
    when it was created and updated last. An update keeps name and time of creation."""
    description = session.describe_endpoint(EndpointName=endpoint)
    names = ("EndpointName", "EndpointConfigName", "CreationTime", "LastModifiedTime")
    told = {name: str(description.get(name, "")) for name in names}
    return json.dumps({**told, "model": model_uri(session, endpoint)}, sort_keys=True)


def content_sha256(path: Path) -> str:
    """Of the bytes of a file, or of a directory's files with their names."""
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    digest = hashlib.sha256()
    for file in files:
        name = str(file.relative_to(path)) if path.is_dir() else ""
        with file.open("rb") as stream:
            of_file = hashlib.file_digest(stream, "sha256").hexdigest()
        digest.update(f"{name} {of_file}\n".encode())
    return digest.hexdigest()


def training_job_of(uri: str) -> str:
    """The job's name inside `…/<job>/output/model.tar.gz`; empty where the URI has another form."""
    parts = uri.rstrip("/").split("/")
    return parts[-3] if len(parts) > 3 and parts[-2] == "output" else ""


def extract_training_log(uri: str, directory: Path) -> Path | None:
    """Copy the training log that lies beside a local model artefact.

    Args:
        uri: file:// URI of model.tar.gz or of the model directory.
        directory: where to write training_log.jsonl.

    Returns:
        The copy, or None where the artefact is remote or has no log beside it.
    """
    if not uri.startswith("file://"):
        return None
    output = local_path(uri).parent
    plain, archive = output / "data" / TRAINING_LOG, output / "output.tar.gz"
    target = directory / TRAINING_LOG
    if plain.is_file():
        content = plain.read_bytes()
    elif archive.is_file():
        content = _member(archive, TRAINING_LOG)
    else:
        return None
    if not content:
        return None
    directory.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    return target


def _member(archive: Path, name: str) -> bytes:
    with tarfile.open(archive) as tar:
        for member in tar:
            if Path(member.name).name == name and member.isfile():
                stream = tar.extractfile(member)
                return stream.read() if stream else b""
    return b""
