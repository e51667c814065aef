"""`sm-launch optimize`."""

from __future__ import annotations

import click

from sm_launch.commands.evaluate import print_summary
from sm_launch.commands.options import (
    JobOptions,
    dry_run_option,
    echo_json,
    echo_name,
    job_options,
    json_option,
)
from sm_launch.commands.train import follow


@click.command()
@job_options
@click.option("--job", metavar="JOB", help="Training job whose model it is. Default: the newest.")
@click.option("--model-data", metavar="URI", help="Another artefact: a model.tar.gz, a directory.")
@click.option("--raw", is_flag=True, help="Print the container's log as it is, no live view.")
@click.option("--detach", is_flag=True, help="Start the job and return at once.")
@click.option("--max-cost", type=float, metavar="USD", help="Refuse what could cost more.")
@dry_run_option
@json_option
def optimize(
    options: JobOptions,
    job: str | None,
    model_data: str | None,
    raw: bool,
    detach: bool,
    max_cost: float | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Make a trained model smaller and faster, and prove that it is as good.

    A training job writes another artefact, as `optimization` in job.yaml says, and scores both on
    held-out rows. Where the new one is worse than `max_drop` allows it fails and exports nothing.
    """
    from sm_launch.evaluation.job import optimizing
    from sm_launch.jobs import training

    context = options.open()
    former, request = optimizing.prepare(
        context, job, model_data, max_cost=max_cost, upload=not dry_run
    )
    if dry_run:
        echo_json(request)
        return
    name = training.start(context, request)
    if detach:
        echo_name("TrainingJobName", name, as_json=as_json)
        return
    with options.detachable(context, "train", name):
        follow(context, name, raw=raw)
    made = optimizing.finish(context, name, former)
    if as_json:
        echo_json(made.as_dict())
        return
    print_summary(optimizing.render(made))
    click.echo(f"model: {made.model}")
    if made.report:
        click.echo(f"report: {made.report}")
    click.echo(f"serve it: {options.next_command('deploy', '--job', name, context=context)}")
