"""`sm-launch alarms`."""

from __future__ import annotations

from pathlib import Path

import click

from sm_launch.commands.options import (
    dry_run_option,
    echo_json,
    endpoint_option,
    job_options,
    json_option,
    open_workplace,
    require_sagemaker,
)
from sm_launch.config import Target


@click.command()
@job_options
@endpoint_option
@click.option("--show", is_flag=True, help="Only show the states of those that are there.")
@click.option("--delete", "deleting", is_flag=True, help="Delete them, and the dashboard.")
@dry_run_option
@json_option
def alarms(
    config_path: Path,
    overrides: tuple[str, ...],
    target: Target | None,
    endpoint: str | None,
    show: bool,
    deleting: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Make the CloudWatch alarms of an endpoint: errors, latency, memory, disk.

    job.yaml's `monitoring` has the limits. They go when the endpoint is deleted.
    """
    from sm_launch import alarms as watch

    place = open_workplace(config_path, overrides, target)
    config = place.config
    name = endpoint or config.endpoint_name
    if dry_run:
        echo_json(watch.alarm_requests(config, name))
        return
    require_sagemaker(place, "alarms")
    if deleting:
        removed = watch.remove(name, config.aws.region)
        _print([f"deleted {line}" for line in removed], removed, as_json=as_json)
    elif show:
        found = watch.states(name, config.aws.region)
        lines = [f"{alarm['AlarmName']:<50} {alarm['StateValue']}" for alarm in found]
        states = [{"name": each["AlarmName"], "state": each["StateValue"]} for each in found]
        _print(lines or ["there are no alarms"], states, as_json=as_json)
    else:
        made = watch.put(config, name)
        lines = [f"alarm {alarm}" for alarm in made]
        lines.append(f"  roll bad updates back with them: endpoint.update.alarms: [{made[0]}]")
        _print(lines, made, as_json=as_json)


def _print(lines: list[str], value: object, *, as_json: bool) -> None:
    if as_json:
        echo_json(value)
        return
    for line in lines:
        click.echo(line)
