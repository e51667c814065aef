"""`sm-launch estimate`."""

from __future__ import annotations

import click

from sm_launch.commands.options import JobOptions, echo_result, job_options, json_option


@click.command()
@job_options
@click.option("--parameters", type=float, help="Size of the model, such as 7e9.")
@click.option(
    "--hosted-on",
    multiple=True,
    metavar="TYPE",
    help="Price a million requests on this instance type. Repeatable. Default: job.yaml's.",
)
@json_option
def estimate(
    options: JobOptions, parameters: float | None, hosted_on: tuple[str, ...], as_json: bool
) -> None:
    """Show the GPU memory of a training, the cheapest instance that fits, and the price.

    Where `evaluate --load` has measured an endpoint's requests a second, also what a million cost.
    """
    from sm_launch.job import estimate as estimates

    context = options.open()
    estimated = estimates.estimate(context.config, context.prices, parameters, hosted_on)
    instance, kind = estimated.suggestion, context.config.training.instances.type
    lines = [
        *estimated.memory.lines,
        f"cheapest that fits: {instance.type} ({instance.gpus} x {instance.gpu}, "
        f"{instance.gpu_memory_gib:g} GiB each, ${instance.price:.3f}/h, {estimated.prices})",
        f"job.yaml's {kind}: {estimated.cost.line if estimated.cost else 'price unknown'}",
        *estimated.million,
    ]
    echo_result(estimated.as_dict(), lines, as_json=as_json)
