"""Training jobs: submit the request, follow it to its end, explain a failure."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sm_launch.aws.causes import LAST_LOG_LINES, explain_failure
from sm_launch.aws.errors import LISTING, is_missing
from sm_launch.aws.paging import every
from sm_launch.errors import LaunchError, UserInputError
from sm_launch.job import limits, local_storage, naming
from sm_launch.job.base_model import BaseModelSource, resolve_model
from sm_launch.job.config import JobConfig
from sm_launch.job.hyperparameter_names import PROGRAM
from sm_launch.job.hyperparameters import (
    check_hyperparameters,
    check_image_has,
    check_image_reads,
    metric_definitions,
)
from sm_launch.job.tracking import check_tracking
from sm_launch.jobs import chaining, checkpoints, requests
from sm_launch.jobs.settings_check import check_settings
from sm_launch.sessions.protocol import Session
from sm_launch.sessions.watching import watch
from sm_launch.target import ownership
from sm_launch.target.base_config import describe as describe_model
from sm_launch.target.channels import resolve_channels
from sm_launch.target.context import JobContext
from sm_launch.target.data_sets import channels_of
from sm_launch.target.reach import NOWHERE
from sm_launch.target.refusals import TRAINING
from sm_launch.target.row_rules import SEEING, check_first_rows, have_images
from sm_launch.target.staging import Stage


@dataclass(frozen=True)
class Observation:
    """What following a job sees at one look.

    Attributes:
        status: SageMaker's TrainingJobStatus.
        secondary_status: SageMaker's SecondaryStatus.
        lines: log lines that are new since the last look.
        description: the whole DescribeTrainingJob answer.
    """

    status: str
    secondary_status: str
    lines: list[str]
    description: dict[str, Any]


def build_request(
    config: JobConfig,
    stage: Stage,
    *,
    name: str,
    image: str,
    role: str,
    checkpoints: str | None = None,
    model: BaseModelSource | None = None,
    locations: dict[str, str] | None = None,
) -> naming.Request:
    """Everything checked and staged, as one CreateTrainingJob request.

    Args:
        config: the job.
        stage: makes URIs of its files.
        name: of the training job.
        image: training image.
        role: ARN of the execution role.
        checkpoints: URI of another job's checkpoints to go on from (`checkpoints_of`); default: a
            place of this job's own.
        model: what `training.model` means, where that was looked up (`chaining.base_model`).
        locations: of its channels, where they are not those of job.yaml.

    Raises:
        UserInputError: bad hyperparameters, missing data or a missing base model.
    """
    check_hyperparameters(config.training.method, config.training.hyperparameters)
    check_image_has(image, config.training.hyperparameters)
    check_settings(config.training.method, config.training.hyperparameters, image)
    check_tracking(config, image)
    model = model or resolve_model(config)
    locations = dict(resolve_channels(config) if locations is None else locations)
    check_first_rows(config, locations)
    if model.location:
        locations["model"] = model.location
    if model.base:
        locations["base"] = model.base
    channels = {channel: stage.channel(channel, where) for channel, where in locations.items()}
    inputs = requests.TrainingInputs(
        channels=channels,
        output=stage.output("jobs"),
        checkpoints=checkpoints or _checkpoints(config, stage, name),
        model=model.hub_id,
        metric_definitions=metric_definitions(
            config.training.method, config.training.hyperparameters
        ),
        image=image,
        role=role,
    )
    return requests.create_training_job(config, name, inputs)


def request_of(
    context: JobContext,
    stage: Stage,
    name: str,
    *,
    config: JobConfig | None = None,
    checkpoints: str | None = None,
    locations: dict[str, str] | None = None,
) -> naming.Request:
    """The CreateTrainingJob request of a job, or of another `config` for the same target."""
    config = config or context.config
    locations = dict(resolve_channels(config) if locations is None else locations)
    _check_reads_images(context, config, locations)
    return build_request(
        config,
        stage,
        name=name,
        image=context.training_image,
        role=context.training_role,
        checkpoints=checkpoints,
        model=chaining.base_model(context.session, config),
        locations=locations,
    )


def _check_reads_images(context: JobContext, config: JobConfig, locations: dict[str, str]) -> None:
    """Refuse a base model that rows with images cannot train, by its files and the image.

    Raises:
        UserInputError: naming the model.
    """
    training = config.training
    if training.method not in SEEING or PROGRAM in training.hyperparameters or not training.model:
        return
    if not have_images(locations):
        return
    model = describe_model(context, config)
    if model.config is None:  # the container says whether it is one
        return
    check_image_reads(context.training_image, model.config.get("model_type"), training.model)
    if model.directory and not any((model.directory / name).is_file() for name in _PROCESSORS):
        raise UserInputError(
            "takes text alone (it has no processor for images), and the rows have images",
            field="training.model",
            value=training.model,
            fix="use a base model that takes images, with its preprocessor_config.json or "
            "processor_config.json; or leave the images out of the rows",
        )


_PROCESSORS = ("preprocessor_config.json", "processor_config.json")


def prepare(
    context: JobContext,
    *,
    resume: str | None = None,
    max_cost: float | None = None,
    upload: bool = True,
) -> naming.Request:
    """Check, price and stage a job; its CreateTrainingJob request under a new name.

    Args:
        context: the job and where it runs.
        resume: a training job that has ended, to go on from its checkpoints.
        max_cost: US dollars; default: job.yaml's limit, if it has one.
        upload: False names the URIs on S3 without sending anything.

    Raises:
        LaunchError: a value that SageMaker does not take, missing data, or a price above the limit.
    """
    check_early(context)
    context.warn(*data_warnings(context.config))
    tell_price(context, max_cost)
    kept = checkpoints_of(context.session, resume) if resume else None
    name = naming.unique_name(context.config.name)
    return request_of(context, context.stage(upload=upload), name, checkpoints=kept)


def start(context: JobContext, request: naming.Request) -> str:
    """Send what `prepare` made; the job's name."""
    context.session.create_training_job(**request)
    context.announce_image(context.training_image)
    name: str = request["TrainingJobName"]
    context.notify(f"training job {name} started ({context.target})")
    return name


def check_early(context: JobContext) -> None:
    """What SageMaker would refuse is refused now, before data is uploaded.

    Raises:
        LaunchError: a value that SageMaker does not take.
    """
    if not context.on_aws:
        context.tell_passed_over("training")
        return
    context.check((TRAINING, example_request(context)))
    instances, key = context.config.training.instances, context.config.aws.kms_key
    told = local_storage.notes(instances.type, key, instances, "training.instances")
    context.warn(*told)


def tell_price(context: JobContext, max_cost: float | None, jobs: int = 1) -> None:
    """Say what the jobs may cost on SageMaker.

    Raises:
        UserInputError: more than the limit: `max_cost`, else job.yaml's.
    """
    if not context.on_aws:
        return
    from sm_launch.job.costs import require_cost

    limit = max_cost or context.config.training.max_cost_usd
    prices = context.prices_of(context.config)
    if estimated := require_cost(context.config, prices, limit, jobs):
        context.notify(f"price: {estimated.line}")


def tell_single_try(context: JobContext, what: str) -> None:
    """Say that nothing is tried again, where job.yaml asks for it.

    Args:
        context: the job.
        what: subject and verb: what runs.
    """
    asked = [name for name in ("fallback", "restarts") if getattr(context.config.training, name)]
    if asked:
        names = " and ".join(f"training.{name}" for name in asked)
        context.warn(f"{names}: for `train` alone; {what} once, as training.instances says")


def example_request(context: JobContext) -> naming.Request:
    """The job's request with places on S3 that nothing has been sent to."""
    model, kept = resolve_model(context.config), context.config.training.checkpoints or ""
    named = {**context.config.training.channels, "model": model.location or ""}
    far = {name: uri for name, uri in named.items() if uri.startswith("s3://")}
    inputs = requests.TrainingInputs(
        channels={"train": f"{NOWHERE}/train/", **far},
        output=context.place("jobs"),
        checkpoints=kept if kept.startswith("s3://") else context.place("checkpoints"),
        model=model.hub_id,
        metric_definitions=metric_definitions(
            context.config.training.method, context.config.training.hyperparameters
        ),
        image=context.training_image,
        role=context.training_role,
    )
    name = naming.unique_name(context.config.name)
    return requests.create_training_job(context.config, name, inputs)


def data_warnings(config: JobConfig) -> list[str]:
    """What is doubtful in a classifier's local train channels: labels that look like one."""
    training = config.training
    if training.method != "text-classification" or PROGRAM in training.hyperparameters:
        return []
    from sm_launch.data.channel_labels import label_warnings

    locations = resolve_channels(config)
    column = str(training.hyperparameters.get("label_column", "label"))
    return [
        warning
        for name in channels_of(locations, "train")
        if "://" not in locations[name]
        for warning in label_warnings(Path(locations[name]), column)
    ]


def _checkpoints(config: JobConfig, stage: Stage, name: str) -> str | None:
    """A place that no other job writes to: what lies there would be taken for this job's own."""
    location = config.training.checkpoints
    if location is None:
        return stage.output(f"checkpoints/{name}") if config.training.spot else None
    if location.startswith("s3://"):
        return f"{location.rstrip('/')}/{name}"
    return stage.checkpoints(config.path(location), name)


def checkpoints_of(session: Session, name: str) -> str:
    """URI of the checkpoints that a training job has left, to go on from.

    Raises:
        LaunchError: it still runs, or kept none.
    """
    try:
        described = session.describe_training_job(TrainingJobName=name)
    except Exception as error:
        if not is_missing(error):
            raise
        raise LaunchError(
            "there is no such training job", field="--resume", value=name, fix=LISTING
        ) from None
    if described["TrainingJobStatus"] not in limits.TRAINING_FINAL_STATUSES:
        raise LaunchError(
            "the training job still runs, and goes on by itself after an interruption",
            field="--resume",
            value=name,
            fix=f"wait for it with `sm-launch train --attach {name}`, or stop it first",
        )
    if "TuningJobArn" in described:
        raise LaunchError(
            "the training job is a trial of a sweep, whose checkpoints are its own",
            field="--resume",
            value=name,
            fix="train anew with the trial's values: --set training.hyperparameters.KEY=VALUE",
        )
    if checkpoints.kept(session, described) is False:
        raise LaunchError(
            "the training job kept no checkpoints",
            field="--resume",
            value=name,
            fix="train anew, with training.checkpoints or training.spot in job.yaml",
        )
    return str(described["CheckpointConfig"]["S3Uri"])


def resume_hint(session: Session, description: dict[str, Any]) -> str:
    """How to go on with a job that has ended early; empty where it kept no checkpoints."""
    kept = checkpoints.kept(session, description)
    if kept is False:
        return ""
    told = "goes on from its last one" if kept else "goes on from its last one, if it kept any"
    return f"`sm-launch train --resume {description['TrainingJobName']}` {told}"


def follow(session: Session, name: str) -> Iterator[Observation]:
    """Look at a job until it has ended, with the log lines as they come."""
    cursor: Any = None

    def look() -> Observation:
        nonlocal cursor
        # Describe first: lines written before the status changed are then never missed.
        description = session.describe_training_job(TrainingJobName=name)
        lines, cursor = session.training_log_lines(name, cursor)
        status = description["TrainingJobStatus"]
        if status == "Failed" and session.log_lag_seconds:
            # The last lines, which say why, come later than the status.
            time.sleep(session.log_lag_seconds)
            late, cursor = session.training_log_lines(name, cursor)
            lines = [*lines, *late]
        return Observation(status, description.get("SecondaryStatus", ""), lines, description)

    return watch(
        look,
        lambda seen: seen.status in limits.TRAINING_FINAL_STATUSES,
        session.seconds_between_looks,
    )


def wait(
    session: Session, name: str, on_observation: Callable[[Observation], None] = lambda seen: None
) -> dict[str, Any]:
    """Follow a job and return its last description.

    Raises:
        LaunchError: the job failed; the message holds the container's own words.
    """
    tail: list[str] = []
    description: dict[str, Any] = {}
    for observation in follow(session, name):
        on_observation(observation)
        tail = [*tail, *observation.lines][-LAST_LOG_LINES:]
        description = observation.description
    if description["TrainingJobStatus"] == "Failed":
        raise failure(session, name, description, tail)
    return description


def failure(
    session: Session, name: str, description: dict[str, Any], tail: list[str]
) -> LaunchError:
    """The error that says why a job failed: its own reason, the last log lines, the next step."""
    message, step = explain_failure(
        f"training job {name} failed", description.get("FailureReason"), lambda: tail
    )
    hint = resume_hint(session, description)
    again = f"checkpoints: {hint}" if hint else "it left no checkpoint to go on from"
    return LaunchError(message, fix=f"{step} and run it again; {again}")


def _named_after(session: Session, base_name: str, status: str) -> Iterator[dict[str, Any]]:
    """The training jobs called after a job.yaml that have a status, newest first."""
    summaries = every(
        session.list_training_jobs,
        "TrainingJobSummaries",
        NameContains=base_name,
        StatusEquals=status,
        SortBy="CreationTime",
        SortOrder="Descending",
    )
    # Of this machine's launchers, and of EventBridge (`schedules`).
    ours = re.compile(re.escape(base_name) + r"(-\d{8}-\d{6}-\d{3}|-s-[0-9A-Za-z]+)")
    return (summary for summary in summaries if ours.fullmatch(summary["TrainingJobName"]))


def _stranger(session: Session, summary: dict[str, Any], config: JobConfig) -> str | None:
    return ownership.stranger(ownership.tags_of(session, summary["TrainingJobArn"]), config)


def latest_completed(session: Session, config: JobConfig) -> dict[str, Any]:
    """The newest completed training job of a job.yaml.

    Raises:
        LaunchError: there is none; the message names those of that name that are somebody else's.
    """
    foreign = ""
    for summary in _named_after(session, config.name, "Completed"):
        reason = _stranger(session, summary, config)
        if reason is None:
            return session.describe_training_job(TrainingJobName=summary["TrainingJobName"])
        foreign = foreign or f"; {summary['TrainingJobName']} is not this job's: {reason}"
    raise LaunchError(
        f"no completed training job to deploy{foreign}",
        field="name",
        value=config.name,
        fix="run `sm-launch train` first, or name a job with --job or a model with --model-data",
    )
