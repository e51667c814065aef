"""`sm-launch schedule`."""

from __future__ import annotations

import click

from sm_launch.commands.options import (
    JobOptions,
    adopt_option,
    dry_run_option,
    echo_json,
    echo_result,
    job_options,
    json_option,
)


@click.command()
@click.argument("expression", required=False)
@click.option("--timezone", default="UTC", show_default=True, help="Of the expression.")
@click.option("--off", is_flag=True, help="Delete the schedule.")
@click.option("--max-cost", type=float, metavar="USD", help="Refuse what a run could cost more.")
@job_options
@adopt_option
@dry_run_option
@json_option
def schedule(
    expression: str | None,
    timezone: str,
    off: bool,
    max_cost: float | None,
    options: JobOptions,
    adopt: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Train job.yaml by the clock: EXPRESSION is cron(0 3 ? * MON *), rate(7 days) or at(…).

    Without EXPRESSION the job's schedule is shown. SageMaker starts each run by itself; data of
    this machine is uploaded now.
    """
    from sm_launch.jobs import schedules

    context = options.open()
    if off:
        gone = schedules.remove(context, adopt=adopt)
        echo_result({"deleted": gone}, ["deleted" if gone else "no schedule"], as_json=as_json)
        return
    if expression is None:
        context.require_aws("schedules")
        now = schedules.describe(context) or {}
        shown = f"{now['ScheduleExpression']} {now['State']}" if now else "no schedule"
        echo_result(now, [shown], as_json=as_json)
        return
    planned = schedules.prepare(
        context, expression, timezone=timezone, max_cost=max_cost, upload=not dry_run
    )
    if dry_run:
        echo_json(planned.request)
        return
    arn, new = schedules.upsert(context, planned, adopt=adopt)
    told = f"schedule {planned.name} {'made' if new else 'changed'}: {expression} ({timezone})"
    echo_result({"ScheduleArn": arn, "created": new}, [told], as_json=as_json)
