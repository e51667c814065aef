"""Batch transform: a model over files, followed to its end; nothing is left but the answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sm_launch.aws.causes import explain_failure
from sm_launch.aws.errors import SuppressMissing
from sm_launch.aws.uris import meant
from sm_launch.errors import LaunchError, UserInputError
from sm_launch.hosting import requests, served_models
from sm_launch.hosting.invocation import CONTENT_TYPES
from sm_launch.hosting.variants import TransformInputs
from sm_launch.job import limits, local_storage, naming
from sm_launch.job.config import JobConfig
from sm_launch.job.instances import has_gpu
from sm_launch.sessions.protocol import Session
from sm_launch.sessions.watching import watch
from sm_launch.target.context import JobContext
from sm_launch.target.reach import NOWHERE


@dataclass(frozen=True)
class Transform:
    """A batch transform that has not begun: CreateModel and CreateTransformJob, of one name."""

    model: naming.Request
    job: naming.Request

    @property
    def name(self) -> str:
        """The job's name, and its model's."""
        return str(self.job["TransformJobName"])

    def by_method(self) -> dict[str, naming.Request]:
        """The requests by the client's method."""
        return {"create_model": self.model, "create_transform_job": self.job}


def prepare(
    context: JobContext,
    source: str,
    *,
    output: str | None = None,
    content_type: str | None = None,
    job: str | None = None,
    model_data: str | None = None,
    upload: bool = True,
) -> Transform:
    """Find the model, stage the input, and say what will be asked for.

    Args:
        context: the job and where it runs.
        source: a file, a directory or an s3:// URI.
        output: where answers go; default: below the job's own.
        content_type: of the input; default: by the files' ending.
        job: training job whose model runs; default: the newest that completed.
        model_data: an artefact instead.
        upload: False names the URIs on S3 without sending anything.

    Raises:
        UserInputError: there is no such input or model.
    """
    config, image, role = context.config, context.serving_image, context.hosting_role
    if context.on_aws:  # before anything is uploaded
        far = output if output and "://" in output else context.place("transforms")
        near = source if source.startswith("s3://") else f"{NOWHERE}/in"
        places = TransformInputs(near, far, "text/csv")
        example = build(
            config,
            naming.unique_name(config.name),
            model_data=served_models.example(context, job=job, model_data=model_data),
            image=image,
            role=role,
            inputs=places,
        )
        context.check(("CreateModel", example.model), ("CreateTransformJob", example.job))
        kind = config.transform.instance_type
        context.warn(*local_storage.notes(kind, config.aws.kms_key))
    context.tell_passed_over("model", "transform")
    served = served_models.find(context, job=job, model_data=model_data, upload=upload)
    context.warn(*served.warnings)
    name = naming.unique_name(config.name)
    inputs = _inputs(context, name, source, output, content_type, upload=upload)
    planned = build(
        config,
        name,
        model_data=served.uri,
        image=image,
        role=role,
        inputs=inputs,
    )
    context.check(("CreateModel", planned.model), ("CreateTransformJob", planned.job))
    return planned


def build(
    config: JobConfig, name: str, *, model_data: str, image: str, role: str, inputs: TransformInputs
) -> Transform:
    """The requests of a transform, both of the same name."""
    model = requests.create_model(config, name, model_data=model_data, image=image, role=role)
    return Transform(model, requests.create_transform_job(config, name, name, inputs))


def _inputs(
    context: JobContext,
    name: str,
    source: str,
    output: str | None,
    content_type: str | None,
    *,
    upload: bool,
) -> TransformInputs:
    stage = context.stage(upload=upload)
    if not source.startswith("s3://"):
        path = Path(source).expanduser().resolve()
        if not path.exists():
            uri = meant(source)
            raise UserInputError("no such file or directory", field="INPUT", value=source,
                                 fix=f"write {uri}" if uri else None)  # fmt: skip
        source = str(path)
    kind = content_type or _guess(source)
    if output is None:
        output = f"{stage.output('transforms')}/{name}"
    elif "://" not in output:
        output = Path(output).expanduser().resolve().as_uri()
    return TransformInputs(stage.channel("transform", source), output, kind)


def _guess(source: str) -> str:
    path = Path(source)
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    endings = {file.suffix for file in files if file.suffix in CONTENT_TYPES}
    if len(endings) != 1:
        raise UserInputError(
            "the content type of the input is not clear",
            field="--content-type",
            value=source,
            fix=f"name it, such as --content-type {CONTENT_TYPES['.jsonl']}",
        )
    return CONTENT_TYPES[endings.pop()]


def warning(config: JobConfig) -> str:
    """What is likely to go wrong on SageMaker; empty where nothing is."""
    if not has_gpu(config.transform.instance_type):
        return ""
    return (
        "batch transform's GPU hosts have NVIDIA driver 535 at most, too old for CUDA 13: the "
        "serving image must be built for CUDA 12, or take a CPU type (transform.instance_type)"
    )


def start(context: JobContext, transform: Transform) -> str:
    """Send the requests; the model is taken back when the job is refused. Returns the name."""
    if context.on_aws and (message := warning(context.config)):
        context.warn(message)
    context.announce_image(context.serving_image)
    context.session.create_model(**transform.model)
    try:
        context.session.create_transform_job(**transform.job)
    except BaseException:
        remove_model(context.session, transform.name)
        raise
    context.notify(f"transform job {transform.name} started ({context.target})")
    return transform.name


def finish(
    session: Session,
    name: str,
    on_description: Callable[[dict[str, Any]], None] = lambda seen: None,
) -> dict[str, Any]:
    """Follow a job to its end and forget its model; the last DescribeTransformJob answer.

    Raises:
        LaunchError: it failed.
    """
    try:
        description = wait(session, name, on_description)
    except LaunchError:
        remove_model(session, name)
        raise
    remove_model(session, name)
    return description


def wait(
    session: Session, name: str, on_description: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Look at a transform job until it has ended.

    Raises:
        LaunchError: it failed; the message holds the server's last words and the likely cause.
    """
    for description in watch(
        lambda: session.describe_transform_job(TransformJobName=name),
        lambda seen: seen["TransformJobStatus"] in limits.TRANSFORM_FINAL_STATUSES,
        session.seconds_between_looks,
    ):
        on_description(description)
    if description["TransformJobStatus"] == "Failed":
        raise _failure(session, name, description)
    return description


def remove_model(session: Session, name: str) -> None:
    """Forget the model of a job that is over; its artefact stays."""
    with SuppressMissing():
        session.delete_model(ModelName=name)


def _failure(session: Session, name: str, description: dict[str, Any]) -> LaunchError:
    message, step = explain_failure(
        f"transform job {name} failed",
        description.get("FailureReason"),
        lambda: session.transform_log_lines(name, None)[0],
    )
    return LaunchError(
        message, fix=f"{step}, and run it again; files that are done have their answers"
    )
