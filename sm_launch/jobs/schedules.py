"""A training by the clock: EventBridge Scheduler sends the job's own request to SageMaker.

EventBridge Scheduler user guide, "Universal targets" (the API action and its input as JSON) and
"Adding context attributes" (`<aws.scheduler.execution-id>` is another one each time).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any
from zoneinfo import available_timezones

from sm_launch.errors import LaunchError, UserInputError
from sm_launch.job import limits
from sm_launch.jobs import training
from sm_launch.target.checking import refuse_secrets
from sm_launch.target.context import JobContext

TARGET = "arn:aws:scheduler:::aws-sdk:sagemaker:createTrainingJob"
EXECUTION = "<aws.scheduler.execution-id>"
MARK = "-s-"
"""Between the job's name and the execution's: with both, names stay within SageMaker's 63."""
_EXPRESSION = re.compile(r"(cron|rate|at)\(.+\)")


@dataclass(frozen=True)
class Planned:
    """A schedule as it will be made."""

    name: str
    request: dict[str, Any]


def prepare(
    context: JobContext,
    expression: str,
    *,
    timezone: str = "UTC",
    max_cost: float | None = None,
    upload: bool = True,
) -> Planned:
    """Check, price and stage the job; the request that makes its schedule.

    Data is uploaded now, and each run trains on that; data on S3 is read as it then is.

    Args:
        context: the job, on SageMaker.
        expression: cron(…), rate(…) or at(…), as EventBridge Scheduler has them.
        timezone: by its name in the IANA database, which the expression is in.
        max_cost: US dollars a run may cost; default: job.yaml's limit.
        upload: False sends nothing.

    Raises:
        UserInputError: it is no expression, there is no role, or a variable names a secret.
        LaunchError: as `training.prepare`.
    """
    context.require_aws("schedules")
    config = context.config
    if not _EXPRESSION.fullmatch(expression):
        raise UserInputError("is no schedule", field="EXPRESSION", value=expression,
                             fix="such as 'cron(0 3 ? * MON *)' or 'rate(7 days)'")  # fmt: skip
    _check_form(expression, timezone)
    refuse_secrets(config, "a schedule")
    if not config.aws.scheduler_role:
        raise UserInputError("is needed for a schedule", field="aws.scheduler_role",
                             fix="`sm-launch setup` makes one: put SchedulerRole here")  # fmt: skip
    if config.training.fallback or config.training.restarts or config.matrix:
        context.warn("a schedule runs the job as it is: fallback, restarts and matrix are the "
                     "launcher's, which is not there then")  # fmt: skip
    request = training.prepare(context, max_cost=max_cost, upload=upload)
    # Its checkpoints' place has the name as well.
    text = json.dumps(request).replace(
        request["TrainingJobName"], f"{config.name}{MARK}{EXECUTION}"
    )
    return Planned(
        config.name,
        {
            "Name": config.name,
            "Description": f"{limits.DESCRIPTION} {config.name}",
            "ScheduleExpression": expression,
            "ScheduleExpressionTimezone": timezone,
            "State": "ENABLED",
            "FlexibleTimeWindow": {"Mode": "OFF"},
            "Target": {
                "Arn": TARGET,
                "RoleArn": config.aws.scheduler_role,
                "Input": text,
                # A run that came too late would meet the next one.
                "RetryPolicy": {"MaximumRetryAttempts": 3, "MaximumEventAgeInSeconds": 3600},
            },
        },
    )


def _check_form(expression: str, timezone: str) -> None:
    """EventBridge Scheduler user guide, "Schedule types": six fields, one of the days' being ?."""
    kind, _, inside = expression.removesuffix(")").partition("(")
    fields = inside.split()
    if kind == "cron" and (len(fields) != 6 or (fields[2] == "?") == (fields[4] == "?")):
        raise UserInputError(
            "needs six fields: minute, hour, day of the month, month, day of the week, year; one "
            "of the days is ?",
            field="EXPRESSION", value=expression, fix="such as 'cron(0 3 ? * MON *)'",
        )  # fmt: skip
    if kind == "rate" and not re.fullmatch(r"\d+ (minute|hour|day)s?", inside):
        raise UserInputError("is no rate", field="EXPRESSION", value=expression,
                             fix="such as 'rate(7 days)' or 'rate(12 hours)'")  # fmt: skip
    if (known := available_timezones()) and timezone not in known:
        near = get_close_matches(timezone, known, n=3)
        fix = f"such as {', '.join(near or ['Europe/Berlin'])}"
        raise UserInputError("is no time zone of the IANA database", field="--timezone",
                             value=timezone, fix=fix)  # fmt: skip


def upsert(context: JobContext, planned: Planned, *, adopt: bool = False) -> tuple[str, bool]:
    """Make the schedule or change it; its ARN, and whether it is new.

    Raises:
        LaunchError: a schedule of that name is somebody else's.
    """
    client = context.clients("scheduler")
    before = describe(context)
    if before is None:
        return str(client.create_schedule(**planned.request)["ScheduleArn"]), True
    _require_own(context, before, adopt=adopt)
    return str(client.update_schedule(**planned.request)["ScheduleArn"]), False


def remove(context: JobContext, *, adopt: bool = False) -> bool:
    """Delete the job's schedule; whether there was one. Jobs that run go on.

    Raises:
        LaunchError: it is somebody else's.
    """
    context.require_aws("schedules")
    before = describe(context)
    if before is None:
        return False
    _require_own(context, before, adopt=adopt)
    context.clients("scheduler").delete_schedule(Name=context.config.name)
    return True


def describe(context: JobContext) -> dict[str, Any] | None:
    """GetSchedule's answer for the job; None where it has no schedule."""
    client = context.clients("scheduler")
    try:
        answer: dict[str, Any] = client.get_schedule(Name=context.config.name)
    except client.exceptions.ResourceNotFoundException:
        return None
    return answer


def _require_own(context: JobContext, schedule: dict[str, Any], *, adopt: bool) -> None:
    mine = f"{limits.DESCRIPTION} {context.config.name}"
    if schedule.get("Description") != mine and not adopt:
        raise LaunchError(
            "a schedule of this name was made by somebody else",
            field="name",
            value=context.config.name,
            fix="take another name in job.yaml, or --adopt it",
        )
