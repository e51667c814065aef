"""A past training job, run again from its record: does the same come out?"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sm_launch.aws.errors import LISTING, is_missing
from sm_launch.aws.service_model import service_model
from sm_launch.errors import LaunchError, UserInputError
from sm_launch.job import limits, naming
from sm_launch.jobs import training
from sm_launch.jobs.changes import Difference, changes_since
from sm_launch.jobs.records import Record, read_record
from sm_launch.target import ownership
from sm_launch.target.context import JobContext

SUFFIX = "reproduced"
"""In the name of such a job, so that `deploy` does not take it for the newest of its job.yaml."""
_STAMP = re.compile(r"-\d{8}-\d{6}-\d{3}$")
# What a tuning job adds to the hyperparameters of its trainings.
_OF_TUNING = "_tuning_objective_metric"


@dataclass(frozen=True)
class Planned:
    """What a reproduction will ask for; nothing is sent yet.

    Attributes:
        job: the job that is run again.
        request: CreateTrainingJob.
        record: of the former job.
        changes: what has changed since, as far as can be seen from here.
    """

    job: str
    request: naming.Request
    record: Record
    changes: tuple[Difference, ...]


@dataclass(frozen=True)
class Outcome:
    """Both jobs beside each other.

    Attributes:
        job: the former one.
        again: the one that ran now.
        weights: files of weights that differ.
        metrics: metrics that differ.
        causes: what else differs: data, code, libraries, machine.
        compared: how many files and metrics were compared.
        tolerance: by how much metrics may differ; 0 asks for weights bit for bit as well.
    """

    job: str
    again: str
    weights: tuple[Difference, ...]
    metrics: tuple[Difference, ...]
    causes: tuple[Difference, ...]
    compared: tuple[int, int]
    tolerance: float = 0.0

    @property
    def agrees(self) -> bool:
        """Whether the same came out."""
        return not self.metrics and (not self.weights or self.tolerance > 0)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        parts = {"weights": self.weights, "metrics": self.metrics, "causes": self.causes}
        return {
            "job": self.job,
            "again": self.again,
            "agrees": self.agrees,
            "tolerance": self.tolerance,
            "compared": dict(zip(("weights", "metrics"), self.compared, strict=True)),
            **{name: [vars(each) for each in entries] for name, entries in parts.items()},
        }

    def lines(self) -> Iterator[str]:
        """For a terminal."""
        for title, differing, count in (
            ("weights", self.weights, self.compared[0]),
            ("metrics", self.metrics, self.compared[1]),
        ):
            equal = "equal, bit for bit" if title == "weights" else "equal"
            if title == "metrics" and self.tolerance:
                equal = f"equal within {self.tolerance:g}"
            yield f"{title}: {f'{len(differing)} of {count} differ' if differing else equal}"
            yield from (f"  {each}" for each in differing)
        if self.causes:
            yield "what else is not as it was:"
            yield from (f"  {each}" for each in self.causes)

    def require(self) -> None:
        """Raise LaunchError where another model came out."""
        if self.agrees:
            return
        known = "what differs besides is named above" if self.causes else (
            "data, code, libraries and machine are the same: the method draws numbers that no "
            "seed rules, or its operations have no fixed order on this device"
        )  # fmt: skip
        raise LaunchError(f"{self.again} is not as {self.job} was", fix=known)


def prepare(
    context: JobContext, name: str, *, anyway: bool = False, max_cost: float | None = None
) -> Planned:
    """What running a job again will ask for.

    Args:
        context: where the job ran.
        name: the job.
        anyway: although something has changed since.
        max_cost: refuse what could cost more US dollars.

    Raises:
        LaunchError: there is no such job, or it left no record.
        UserInputError: its data, image, code or libraries have changed; each is named.
    """
    description = _completed(context, name)
    record = read_record(description, context.clients)
    changes = tuple(changes_since(context, description, record))
    if changes and not anyway:
        lines = "\n".join(f"  {each}" for each in changes)
        raise UserInputError(
            f"{name} cannot be run again as it was:\n{lines}",
            fix="bring back what it had, or see with --anyway what comes of it",
        )
    for each in changes:
        context.warn(f"changed since {name}: {each}")
    request = again(description, ownership.tags_of(context.session, description["TrainingJobArn"]))
    _tell_price(context, request, max_cost)
    training.tell_single_try(context, "this job runs")
    context.check(("CreateTrainingJob", request))
    return Planned(name, request, record, changes)


def start(context: JobContext, planned: Planned) -> str:
    """Send what `prepare` made; the job's name."""
    request = planned.request
    context.session.create_training_job(**request)
    context.announce_image(str(request.get("AlgorithmSpecification", {}).get("TrainingImage", "")))
    name: str = request["TrainingJobName"]
    context.notify(f"training job {name} started ({context.target}), as {planned.job} was")
    return name


def finish(context: JobContext, planned: Planned, *, tolerance: float = 0.0) -> Outcome:
    """Both records beside each other, once the new job has completed."""
    name = str(planned.request["TrainingJobName"])
    description = context.session.describe_training_job(TrainingJobName=name)
    own = read_record(description, context.clients)
    return compare(planned.job, name, planned.record, own, tolerance)


def compare(job: str, again: str, before: Record, now: Record, tolerance: float = 0.0) -> Outcome:
    """Both jobs' records beside each other."""
    metrics = _differing(before["results"], now["results"], "")
    if tolerance:
        metrics = [each for each in metrics if not _near(each, tolerance)]
    causes = [
        *_differing(_flat(before, "data"), _flat(now, "data"), "channel "),
        *_differing(_flat(before), _flat(now), ""),
        *_differing(_flat(before, "hyperparameters"), _flat(now, "hyperparameters"), ""),
        *_differing(_flat(before, "versions"), _flat(now, "versions"), ""),
        *_differing(_flat(before, "machine"), _flat(now, "machine"), "machine: "),
    ]
    return Outcome(
        job=job,
        again=again,
        weights=tuple(_differing(before["weights"], now["weights"], "")),
        metrics=tuple(metrics),
        causes=tuple(causes),
        compared=(len(before["weights"]), len(before["results"])),
        tolerance=tolerance,
    )


def _near(metric: Difference, tolerance: float) -> bool:
    try:
        return abs(float(metric.before) - float(metric.now)) <= tolerance
    except ValueError:  # one of them is not there
        return False


def _flat(record: Record, part: str | None = None) -> Mapping[str, Any]:
    return record[part] if part else {key: record.get(key) for key in
                                      ("method", "model", "seed", "code")}  # fmt: skip


def _differing(before: Mapping[str, Any], now: Mapping[str, Any], kind: str) -> list[Difference]:
    return [
        Difference(f"{kind}{key}", _told(before, key), _told(now, key))
        for key in sorted({*before, *now})
        if before.get(key) != now.get(key)
    ]


def _told(values: Mapping[str, Any], key: str) -> str:
    return repr(values[key]) if isinstance(values.get(key), float) else str(values.get(key, "none"))


def _completed(context: JobContext, name: str) -> dict[str, Any]:
    try:
        description = context.session.describe_training_job(TrainingJobName=name)
    except Exception as error:
        if not is_missing(error):
            raise
        raise LaunchError(
            f"there is no such training job ({context.where})", field="JOB", value=name, fix=LISTING
        ) from None
    status = description["TrainingJobStatus"]
    if status != "Completed":
        raise LaunchError(
            f"has nothing to be compared with: it is {status}",
            field="JOB",
            value=name,
            fix="name a job that is Completed",
        )
    return description


def again(description: Mapping[str, Any], tags: Mapping[str, str]) -> naming.Request:
    """CreateTrainingJob of a job that ran already, under a new name and with checkpoints apart."""
    shape: Any = service_model("sagemaker").operation_model("CreateTrainingJob").input_shape
    request = {
        key: value
        for key, value in description.items()
        if key in shape.members and value not in (None, [], {})
    }
    former = str(description["TrainingJobName"])
    name = naming.unique_name(_STAMP.sub("", former), suffix=SUFFIX)
    request["TrainingJobName"] = name
    request["HyperParameters"] = {
        key: value
        for key, value in description.get("HyperParameters", {}).items()
        if key != _OF_TUNING
    }
    if checkpoints := description.get("CheckpointConfig"):
        # Where the former job's lie, nothing would be left to train.
        place = str(checkpoints["S3Uri"]).rstrip("/")
        place = place.removesuffix(former).rstrip("/") if place.endswith(former) else place
        request["CheckpointConfig"] = {**checkpoints, "S3Uri": f"{place}/{name}"}
    kept = {key: value for key, value in tags.items()
            if not key.lower().startswith(limits.RESERVED_TAG_PREFIX)}  # fmt: skip
    request["Tags"] = [{"Key": key, "Value": value} for key, value in kept.items()]
    return request


def _tell_price(context: JobContext, request: naming.Request, max_cost: float | None) -> None:
    """The price of the job's own instances, whatever job.yaml says by now."""
    resources, config = request.get("ResourceConfig", {}), context.config
    if not context.on_aws or "InstanceType" not in resources:
        return
    machines = config.training.instances.model_copy(
        update={"type": resources["InstanceType"], "count": resources.get("InstanceCount", 1)}
    )
    own = config.training.model_copy(
        update={
            "instances": machines,
            "spot": bool(request.get("EnableManagedSpotTraining")),
            "max_runtime_seconds": request["StoppingCondition"]["MaxRuntimeInSeconds"],
        }
    )
    priced = replace(context, config=config.model_copy(update={"training": own}))
    training.tell_price(priced, max_cost)
