"""`sm-launch monitor`."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sm_launch.commands.options import (
    Workplace,
    echo_json,
    endpoint_option,
    find_workplace,
    job_options,
    json_option,
    open_workplace,
)
from sm_launch.config import Target
from sm_launch.errors import QualityGateError, UserInputError

if TYPE_CHECKING:
    from sm_launch.drift import Drift
    from sm_launch.monitoring import Source, VariantSeries


@click.command()
@job_options
@endpoint_option
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
    config_path: Path,
    overrides: tuple[str, ...],
    target: Target | None,
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
    from sm_launch import endpoints, monitoring

    place = (find_workplace if endpoint else open_workplace)(config_path, overrides, target)
    config, on_aws = place.config, place.target == "sagemaker"
    session = place.session()
    name = endpoints.require_meant(place, endpoint)
    source = monitoring.open_source(
        session,
        name,
        on_aws=on_aws,
        since=timedelta(minutes=since),
        period=config.monitoring.period_seconds,
        region=config.aws.region,
    )
    if once or (as_json and duration is None):
        # Local shares of the CPU need two looks.
        interval = duration = 0.0 if on_aws else 1.0
    pause = interval or (30.0 if on_aws else 2.0)
    series = _watch(_looks(source, pause, duration), name, quiet=as_json)
    drifts = _drifts(session, place, name) if with_drift or fail_on_drift else []
    problems = [words for each in series for words in monitoring.problems(each, config.monitoring)]
    if report:
        from sm_launch.report.monitoring import write_monitoring

        where = "CloudWatch" if on_aws else "the servers on this machine"
        write_monitoring(name, series, drifts, problems, report, source=where)
    _tell(name, series, drifts, problems, report, as_json=as_json)
    drifted = [drift.what for drift in drifts if drift.state == "drift"]
    if fail_on_drift and drifted:
        raise QualityGateError(f"the {' and the '.join(drifted)} drifted from the training set")


def _looks(source: Source, pause: float, duration: float | None) -> Iterator[list[VariantSeries]]:
    ends = None if duration is None else time.monotonic() + duration
    while True:
        yield source.look()
        left = pause if ends is None else min(pause, ends - time.monotonic())
        if left <= 0:
            return
        time.sleep(left)


def _watch(looks: Iterator[list[VariantSeries]], name: str, *, quiet: bool) -> list[VariantSeries]:
    """Look until the time is over or Ctrl-C; a live table on a terminal."""
    series = next(looks)
    try:
        if quiet or not sys.stdout.isatty():
            for seen in looks:
                series = seen
            return series
        from rich.live import Live

        from sm_launch.monitor_view import view

        with Live(view(name, series), refresh_per_second=4, transient=True) as live:
            for series in looks:
                live.update(view(name, series))
    except KeyboardInterrupt:
        pass
    return series


def _drifts(session: Any, place: Workplace, name: str) -> list[Drift]:
    from sm_launch import captured
    from sm_launch.evaluation import read_rows

    config = place.config
    described = session.describe_endpoint(EndpointName=name)
    settings = described.get("DataCaptureConfig")
    if not settings:
        raise UserInputError(
            "the endpoint keeps no requests to compare",
            field="endpoint.data_capture",
            fix="add endpoint.data_capture: {percentage: 20} and deploy again",
        )
    channel = config.prepared_path / "train"
    named = config.training.channels.get("train")
    training = captured.read_training(
        read_rows(config.path(named) if named else channel, limit=captured.MOST_ROWS)
    )
    seen = captured.Sample()
    for variant in described["ProductionVariants"]:
        location = f"{settings['DestinationS3Uri'].rstrip('/')}/{name}/{variant['VariantName']}"
        found = captured.read_captured(captured.captured_lines(location, place.clients))
        seen.lengths += found.lengths
        seen.labels.update(found.labels)
    return captured.compare(training, seen, config.monitoring.drift_threshold)


def _tell(
    name: str,
    series: list[VariantSeries],
    drifts: list[Drift],
    problems: list[str],
    report: Path | None,
    *,
    as_json: bool,
) -> None:
    if as_json:
        echo_json(
            {
                "endpoint": name,
                "variants": {each.variant: each.summary() for each in series},
                "drift": [drift.as_dict() for drift in drifts],
                "problems": problems,
            }
        )
        return
    from rich.console import Console

    from sm_launch.monitor_view import view

    Console().print(view(name, series))
    for drift in drifts:
        click.echo(
            f"{drift.what}: stability index {drift.index:.3f} (limit {drift.limit:.3f}), "
            f"{drift.captured_rows} captured: {drift.state}"
        )
    for words in problems:
        click.secho(f"problem: {words}", fg="red")
    if report:
        click.echo(f"report: {report}")
