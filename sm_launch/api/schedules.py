"""Trainings by the clock."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sm_launch.api.opening import DEFAULT_JOB, Job, open_job
from sm_launch.job.config import Target


def schedule(
    expression: str | None = None,
    *,
    job: Job = DEFAULT_JOB,
    target: Target | None = None,
    region: str | None = None,
    overrides: Sequence[str] = (),
    timezone: str = "UTC",
    off: bool = False,
    max_cost: float | None = None,
    adopt: bool = False,
) -> dict[str, Any]:
    """Train job.yaml by the clock: `sm-launch schedule`.

    Args:
        expression: cron(…), rate(…) or at(…); default: what the schedule is now.
        timezone: of the expression.
        off: delete the schedule.
        max_cost: refuse what a run could cost more US dollars; default: job.yaml's limit.
        adopt: take over a schedule of that name that somebody else has made.

    Returns:
        `ScheduleArn` and `created`; with `off` `deleted`; else GetSchedule's answer.
    """
    from sm_launch.jobs import schedules

    context = open_job(job, overrides, target, region)
    if off:
        return {"deleted": schedules.remove(context, adopt=adopt)}
    if expression is None:
        context.require_aws("schedules")
        return schedules.describe(context) or {}
    planned = schedules.prepare(context, expression, timezone=timezone, max_cost=max_cost)
    arn, new = schedules.upsert(context, planned, adopt=adopt)
    return {"ScheduleArn": arn, "created": new}
