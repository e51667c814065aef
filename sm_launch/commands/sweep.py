"""`sm-launch sweep`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from sm_launch.commands.options import (
    JobOptions,
    dry_run_option,
    echo_json,
    echo_name,
    job_options,
    json_option,
)
from sm_launch.errors import LaunchError
from sm_launch.progress import ProgressBar, progress
from sm_launch.report.numbers import decimal

if TYPE_CHECKING:
    from sm_launch.jobs.tuning import SweepResult, Trial


@click.command()
@job_options
@click.option("--detach", is_flag=True, help="Start the sweep and return at once.")
@click.option("--attach", metavar="SWEEP", help="Follow a sweep that is running already.")
@click.option("--max-cost", type=float, metavar="USD", help="Refuse what could cost more.")
@dry_run_option
@json_option
def sweep(
    options: JobOptions,
    detach: bool,
    attach: str | None,
    max_cost: float | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Search for the best hyperparameters: what job.yaml's `sweep` names.

    On SageMaker it is a hyperparameter tuning job, in processes the same search on this machine.
    Ctrl-C detaches, `sm-launch stop SWEEP` ends it.
    """
    from sm_launch.jobs import tuning

    context = options.open()
    if attach:
        name = attach
    else:
        request = tuning.prepare(context, max_cost=max_cost, upload=not dry_run)
        if dry_run:
            echo_json(request)
            return
        name = tuning.start(context, request)
    if detach:
        echo_name("HyperParameterTuningJobName", name, as_json=as_json)
        return
    with options.detachable(context, "sweep", name), progress(f"Sweep {name}") as bar:
        result = tuning.wait(context.session, name, lambda seen, trials: _show(seen, trials, bar))
    if as_json:
        echo_json(result.as_dict())
    else:
        _print_table(result)
        if result.best_job:
            deploy = options.next_command("deploy", "--job", result.best_job, context=context)
            click.echo(f"best: {result.best_job}\n  deploy it:  {deploy}")
    if result.status == "Stopped":
        raise LaunchError(f"sweep {result.name} was stopped before its end")


def _show(seen: dict[str, Any], trials: list[Trial], bar: ProgressBar) -> None:
    ended = [trial for trial in trials if trial.status not in {"InProgress", "Stopping"}]
    scored = [trial.objective for trial in ended if trial.objective is not None]
    objective = seen["HyperParameterTuningJobConfig"]["HyperParameterTuningJobObjective"]
    best = (max if objective["Type"] == "Maximize" else min)(scored, default=None)
    limits = seen["HyperParameterTuningJobConfig"]["ResourceLimits"]
    description = f"Sweep: {len(trials) - len(ended)} running"
    if best is not None:
        description += f", best {objective['MetricName']} {decimal(best)}"
    bar.update(
        description=description,
        completed=len(ended),
        total=limits.get("MaxNumberOfTrainingJobs"),
    )


def _print_table(result: SweepResult) -> None:
    click.echo(f"sweep {result.name}: {result.status} ({result.direction} {result.metric})")
    names = sorted({name for trial in result.trials for name in trial.values})
    rows = [["", result.metric, *names, "status", "time", "training job"]]
    for context, trial in enumerate(result.trials, start=1):
        objective = "-" if trial.objective is None else decimal(trial.objective)
        values = [_short(trial.values.get(name, "")) for name in names]
        time = "-" if trial.seconds is None else f"{trial.seconds:.0f} s"
        rows.append([str(context), objective, *values, trial.status, time, trial.job])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo(f"  {'  '.join(cells)}".rstrip())


def _short(value: str) -> str:
    try:
        return value if value.isdigit() else f"{float(value):.4g}"
    except ValueError:
        return value
