"""`sm-launch estimate`."""

from __future__ import annotations

import click

from sm_launch.commands.options import JobOptions, echo_json, job_options, json_option


@click.command()
@job_options
@click.option("--parameters", type=float, help="Size of the model, such as 7e9.")
@json_option
def estimate(options: JobOptions, parameters: float | None, as_json: bool) -> None:
    """Show the GPU memory of a training, the cheapest instance that fits, and the price."""
    from sm_launch.job import estimate as estimates

    context = options.open()
    found = estimates.estimate(context.config, context.prices, parameters)
    if as_json:
        echo_json(found.as_dict())
        return
    for line in found.memory.lines:
        click.echo(line)
    instance, kind = found.suggestion, context.config.training.instances.type
    click.echo(
        f"cheapest that fits: {instance.type} ({instance.gpus} x {instance.gpu}, "
        f"{instance.gpu_memory_gib:g} GiB each, ${instance.price:.3f}/h, {found.prices})"
    )
    click.echo(f"job.yaml's {kind}: {found.cost.line if found.cost else 'price unknown'}")
