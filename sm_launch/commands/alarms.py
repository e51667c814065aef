"""`sm-launch alarms`."""

from __future__ import annotations

import click

from sm_launch.commands.options import (
    JobOptions,
    dry_run_option,
    echo_json,
    echo_result,
    endpoint_argument,
    job_options,
    json_option,
)


@click.command()
@job_options
@endpoint_argument
@click.option("--show", is_flag=True, help="Only show the states of those that are there.")
@click.option("--delete", "deleting", is_flag=True, help="Delete them, and the dashboard.")
@dry_run_option
@json_option
def alarms(
    options: JobOptions,
    endpoint: str | None,
    show: bool,
    deleting: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Make the CloudWatch alarms of an endpoint: errors, latency, memory, disk.

    job.yaml's `monitoring` has the limits. They go when the endpoint is deleted.
    """
    from sm_launch.monitoring import alarms as endpoint_alarms

    context = options.of(endpoint) if show or deleting else options.open()
    config, name = context.config, endpoint or context.config.endpoint_name
    if dry_run:
        echo_json(endpoint_alarms.alarm_requests(config, name))
        return
    context.require_aws("alarms")
    if deleting:
        removed = endpoint_alarms.remove(name, context.region)
        echo_result(removed, [f"deleted {line}" for line in removed], as_json=as_json)
    elif show:
        states = endpoint_alarms.short_states(name, context.region)
        lines = [f"{alarm['name']:<50} {alarm['state']}" for alarm in states]
        echo_result(states, lines or ["there are no alarms"], as_json=as_json)
    else:
        made = endpoint_alarms.put(config, name)
        lines = [f"alarm {alarm}" for alarm in made]
        lines.append(f"  roll bad updates back with them: endpoint.update.alarms: [{made[0]}]")
        echo_result(made, lines, as_json=as_json)
