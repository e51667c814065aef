"""`sm-launch monitor`."""

from __future__ import annotations

import sys
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sm_launch.commands.options import (
    JobOptions,
    echo_json,
    endpoint_argument,
    job_options,
    json_option,
)

if TYPE_CHECKING:
    from sm_launch.monitoring.series import VariantSeries
    from sm_launch.monitoring.sources import Looks, Monitored


@click.command()
@job_options
@endpoint_argument
@click.option("--since", type=float, default=60.0, show_default=True,
              help="How far back, in minutes (SageMaker).")  # fmt: skip
@click.option("--interval", type=float, help="Seconds between looks. Default: 30; 2 locally.")
@click.option("--duration", type=float, help="End after so many seconds.")
@click.option("--once", is_flag=True, help="One look, then end.")
@click.option("--drift", "with_drift", is_flag=True, help="Compare captured data with training.")
@click.option("--fail-on-drift", is_flag=True, help="Exit code 3 when there is drift.")
@click.option("--report", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="Write an HTML report at the end.")  # fmt: skip
@json_option
def monitor(
    options: JobOptions,
    endpoint: str | None,
    since: float,
    interval: float | None,
    duration: float | None,
    once: bool,
    with_drift: bool,
    fail_on_drift: bool,
    report: Path | None,
    as_json: bool,
) -> None:
    """Watch an endpoint: requests, latency, errors, CPU, GPU, memory.

    On SageMaker from CloudWatch; in processes from the servers themselves. Ctrl-C ends it, and
    writes the report where one is wanted.
    """
    from sm_launch.monitoring import sources

    seen = sources.monitor(
        options.of(endpoint),
        endpoint,
        since=timedelta(minutes=since),
        interval=interval,
        duration=duration,
        once=once or (as_json and duration is None),
        drift=with_drift or fail_on_drift,
        show=partial(_show, quiet=as_json),
    )
    if report:
        seen.write(report)
    if as_json:
        echo_json(seen.as_dict())
    else:
        _tell(seen, report)
    if fail_on_drift:
        seen.require_no_drift()


def _show(name: str, looks: Looks, *, quiet: bool) -> list[VariantSeries]:
    """Look until the time is over or Ctrl-C; a live table on a terminal."""
    series = next(looks)
    try:
        if quiet or not sys.stdout.isatty():
            for seen in looks:
                series = seen
            return series
        from rich.live import Live

        from sm_launch.commands.monitor_view import view

        with Live(view(name, series), refresh_per_second=4, transient=True) as live:
            for series in looks:
                live.update(view(name, series))
    except KeyboardInterrupt:
        pass
    return series


def _tell(seen: Monitored, report: Path | None) -> None:
    from rich.console import Console

    from sm_launch.commands.monitor_view import view

    Console().print(view(seen.endpoint, seen.series))
    for drift in seen.drifts:
        click.echo(
            f"{drift.what}: stability index {drift.index:.3f} (limit {drift.limit:.3f}), "
            f"{drift.captured_rows} captured: {drift.state}"
        )
    for problem in seen.problems:
        click.secho(f"problem: {problem}", fg="red")
    if report:
        click.echo(f"report: {report}")
