"""`sm-launch estimate`."""

from __future__ import annotations

import click

from sm_launch.commands.options import JobOptions, echo_result, job_options, json_option


@click.command()
@job_options
@click.option("--parameters", type=float, help="Size of the model, such as 7e9.")
@json_option
def estimate(options: JobOptions, parameters: float | None, as_json: bool) -> None:
    """Show the GPU memory of a training, the cheapest instance that fits, and the price."""
    from sm_launch.job import estimate as estimates

    context = options.open()
    found = estimates.estimate(context.config, context.prices, parameters)
    instance, kind = found.suggestion, context.config.training.instances.type
    lines = [
        *found.memory.lines,
        f"cheapest that fits: {instance.type} ({instance.gpus} x {instance.gpu}, "
        f"{instance.gpu_memory_gib:g} GiB each, ${instance.price:.3f}/h, {found.prices})",
        f"job.yaml's {kind}: {found.cost.line if found.cost else 'price unknown'}",
    ]
    echo_result(found.as_dict(), lines, as_json=as_json)
