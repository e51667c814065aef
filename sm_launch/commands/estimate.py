"""`sm-launch estimate`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import click

from sm_launch.commands.options import JobOptions, echo_result, job_options, json_option

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sm_launch.job.estimate import Estimate


@click.command()
@click.option("--model", help="Base model, in place of job.yaml's; no job.yaml is needed then.")
@click.option("--method", help="Training method, in place of job.yaml's.")
@click.option("--instance-type", metavar="TYPE", help="Instances, in place of job.yaml's.")
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
    options: JobOptions,
    model: str | None,
    method: str | None,
    instance_type: str | None,
    parameters: float | None,
    hosted_on: tuple[str, ...],
    as_json: bool,
) -> None:
    """Show the GPU memory of a training, the cheapest instance that fits, and the price.

    Where `evaluate --load` has measured an endpoint's requests a second, also what a million cost.
    """
    from sm_launch.target import estimating

    asked = estimating.Asked(model, method, instance_type, parameters)
    options = replace(options, overrides=(*options.overrides, *asked.overrides))
    context = options.open() if asked.needs_job else options.find()
    estimated = estimating.estimate(context, parameters, hosted_on)
    echo_result(estimated.as_dict(), _lines(estimated), as_json=as_json)


def _lines(estimated: Estimate) -> Iterator[str]:
    yield f"parameters   {estimated.parameters / 1e6:.1f} million, {estimated.counted}"
    yield from estimated.memory.lines
    instance = estimated.suggestion
    if instance is None:
        yield f"no instance fits: {estimated.advice}"
    else:
        advice = f" {estimated.advice}" if estimated.advice else ""
        yield (
            f"cheapest that fits{advice}: {instance.type} ({instance.gpus} x {instance.gpu}, "
            f"{instance.gpu_memory_gib:g} GiB each, ${instance.price:.3f}/h, {estimated.prices})"
        )
    yield estimated.own.line
    kind = estimated.own.instance.type
    yield f"{kind}: {estimated.cost.line if estimated.cost else 'price unknown'}"
    yield from estimated.million
