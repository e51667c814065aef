"""A training tried again: elsewhere where AWS has no capacity, anew where the cause may pass.

Which failures pass: SageMaker developer guide, "Troubleshooting" (CapacityError,
InternalServerError), and the service model's SecondaryStatus of CreateTrainingJob.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from sm_launch.aws.uris import split_s3
from sm_launch.errors import LaunchError, UserInputError
from sm_launch.job import naming
from sm_launch.job.base_model import resolve_model
from sm_launch.job.config import JobConfig
from sm_launch.job.fallback import alternatives
from sm_launch.jobs import checkpoints, training
from sm_launch.target.channels import resolve_channels
from sm_launch.target.context import JobContext

SECONDS_BEFORE_RESTART = 30.0
_CAPACITY = re.compile(
    r"capacityerror|insufficient ?(instance)?capacity|unable to provision requested ml compute|"
    r"resourcelimitexceeded|account-level service limit",
    re.IGNORECASE,
)
_PASSING = re.compile(
    r"internal ?(server)? ?error|\bnccl\b|uncorrectable|\becc\b|\bxid\b|unhealthy|host error|"
    r"connection (reset|refused|aborted)|name resolution|read timed out|service unavailable|"
    r"too many requests|exit code:? ?(143|-15)\b|sigterm|interrupt",
    re.IGNORECASE,
)
_INTERRUPTED = {"Interrupted", "MaxWaitTimeExceeded"}
Kind = Literal["capacity", "passing"]
Follow = Callable[[JobContext, str], dict[str, Any]]


@dataclass
class Plan:
    """A training, and where it may go.

    Attributes:
        contexts: the job, then each of its fallbacks.
        request: of the first try, staged.
        max_cost: as `training.prepare` takes it.
        resume: a job from whose checkpoints the next try goes on.
        place: which of the contexts is tried.
        restarts: how often a failed job may still be started anew.
        sleep: waits so many seconds.
    """

    contexts: list[JobContext]
    request: naming.Request | None
    max_cost: float | None
    resume: str | None = None
    place: int = 0
    restarts: int = 0
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)

    @property
    def context(self) -> JobContext:
        return self.contexts[self.place]


def plan(
    context: JobContext,
    *,
    resume: str | None = None,
    max_cost: float | None = None,
    upload: bool = True,
) -> Plan:
    """Check the job and every fallback, and stage the first try.

    Takes the arguments of `training.prepare` and raises its errors.
    """
    others = []
    if context.on_aws:
        others = [replace(context, config=config) for config in alternatives(context.config)]
        for index, other in enumerate(others):
            _check(context, other, f"training.fallback.{index}")
            training.tell_price(other, max_cost)
    elif context.config.training.fallback:
        context.warn("training.fallback: SageMaker has that alone, not this machine")
    request = training.prepare(context, resume=resume, max_cost=max_cost, upload=upload)
    restarts = context.config.training.restarts
    return Plan([context, *others], request, max_cost, resume, restarts=restarts)


def warn_detached(context: JobContext) -> None:
    """Say what does not happen where the launcher does not wait."""
    if context.config.training.fallback or context.config.training.restarts:
        context.warn("once the job has started, training.fallback and training.restarts need the "
                     "launcher to wait for it")  # fmt: skip


def start(plan: Plan) -> str:
    """Start the job at the first place that takes it; its name."""
    from botocore.exceptions import ClientError

    while True:
        context = plan.context
        request = plan.request or training.prepare(
            context, resume=plan.resume, max_cost=plan.max_cost
        )
        plan.request = None
        try:
            return training.start(context, request)
        except ClientError as error:
            if not _CAPACITY.search(str(error)) or not _elsewhere(plan, str(error)):
                raise


def run(plan: Plan, follow: Follow) -> dict[str, Any]:
    """Start the job and follow it, again where that may help; its last description.

    Raises:
        LaunchError: it failed for a cause that stays, or too often.
    """
    while True:
        name = start(plan)
        context = plan.context
        try:
            description = follow(context, name)
        except LaunchError:
            description = context.session.describe_training_job(TrainingJobName=name)
            if description["TrainingJobStatus"] != "Failed" or not _again(plan, description):
                raise
            continue
        if description["TrainingJobStatus"] != "Stopped" or not _again(plan, description):
            return description


def kind_of(description: dict[str, Any]) -> Kind | None:
    """Why a job ended, as far as trying again goes; None where it would end so again."""
    reason = str(description.get("FailureReason") or "")
    if description["TrainingJobStatus"] == "Stopped":
        return "capacity" if description.get("SecondaryStatus") in _INTERRUPTED else None
    if _CAPACITY.search(reason):
        return "capacity"
    return "passing" if _PASSING.search(reason) else None


def _again(plan: Plan, description: dict[str, Any]) -> bool:
    """Set the plan to its next try; whether there is one."""
    kind = kind_of(description)
    context, name = plan.context, description["TrainingJobName"]
    reason = str(description.get("FailureReason") or description.get("SecondaryStatus") or "")
    if kind == "capacity" and _elsewhere(plan, reason):
        return True
    if not plan.restarts:
        return False
    if kind is None:
        context.notify(f"{name} is not started again: the cause would stay")
        return False
    plan.restarts -= 1
    kept = checkpoints.kept(context.session, description)
    plan.resume = name if kept is not False else None  # what nobody may look up may be there
    if kind == "capacity" and kept is False:
        plan.place = 0
    told = "from the beginning" if kept is False else "from its checkpoints"
    told += ", if it kept any" if kept is None else ""
    context.warn(f"{name}: {reason[:200]}; started again {told}, {plan.restarts} restart(s) left")
    plan.sleep(SECONDS_BEFORE_RESTART)
    return True


def _elsewhere(plan: Plan, reason: str) -> bool:
    """Go to the next fallback, if there is one."""
    if plan.place + 1 >= len(plan.contexts):
        return False
    before, plan.place = plan.context.config, plan.place + 1
    after = plan.context.config
    if before.aws.region != after.aws.region:
        plan.resume = None  # its checkpoints are in the other region
    instances, place = after.training.instances.type, plan.context.where
    plan.context.warn(f"{reason[:200]}; trying {instances} ({place})")
    return True


def _check(first: JobContext, other: JobContext, field: str) -> None:
    """What a fallback could not run with is refused now, not in the night when it is needed.

    Raises:
        UserInputError: a type, image, bucket, key, network or input of another region.
    """
    config = other.config
    try:
        training.check_early(other)
    except UserInputError as error:
        raise UserInputError(error.message, field=field, value=error.value, fix=error.fix) from None
    if config.aws.region == first.config.aws.region:
        return
    region = str(config.aws.region)
    key = config.aws.kms_key or ""
    if config.training.network.subnets:
        raise _of_another(
            "training.network.subnets", config.training.network.subnets, region, field
        )
    if key.startswith("arn:") and f":{region}:" not in key:
        raise _of_another("aws.kms_key", key, region, field)
    for uri in (f"s3://{config.aws.bucket}", *_inputs(config)):
        bucket, _ = split_s3(uri)
        answer = other.clients("s3").head_bucket(Bucket=bucket)
        if answer.get("BucketRegion", region) != region:
            raise _of_another("the input", uri, region, field)


def _inputs(config: JobConfig) -> list[str]:
    """The s3:// URIs that the job reads."""
    located = [*resolve_channels(config).values(), resolve_model(config).location or ""]
    return [uri for uri in located if uri.startswith("s3://")]


def _of_another(name: str, value: Any, region: str, field: str) -> UserInputError:
    return UserInputError(
        f"{name} is not in {region}",
        field=f"{field}.region",
        value=value,
        fix="take this region out of training.fallback, or copy what it needs there",
    )
