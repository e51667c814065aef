"""`sm-launch estimate`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from sm_launch.commands.options import echo_json, job_options, json_option
from sm_launch.config import Target, load_config
from sm_launch.errors import UserInputError


@click.command()
@job_options
@click.option("--parameters", type=float, help="Size of the model, such as 7e9.")
@json_option
def estimate(
    config_path: Path,
    overrides: tuple[str, ...],
    target: Target | None,
    parameters: float | None,
    as_json: bool,
) -> None:
    """Show the GPU memory of a training, the cheapest instance that fits, and the price."""
    from sm_launch import estimate as estimates
    from sm_launch.staging import resolve_model

    config = load_config(config_path, overrides)
    source = resolve_model(config)
    local = source.location if source.location and "://" not in source.location else None
    count = parameters or estimates.parameter_count(
        config.training.model, Path(local) if local else None
    )
    if count is None:
        raise UserInputError(
            "the size of this model is unknown",
            field="--parameters",
            value=config.training.model,
            fix="give the number of parameters, such as --parameters 7e9",
        )
    settings = {"method": config.training.method, **config.training.hyperparameters}
    needed = estimates.memory(count, settings, estimates.other_models(config))
    instance = estimates.suggest(needed.total_gib)
    priced = estimates.cost(config)
    if as_json:
        cost = asdict(priced) if priced else None
        echo_json({"parameters": count, "memory": asdict(needed),
                   "suggestion": asdict(instance), "cost": cost})  # fmt: skip
        return
    for line in needed.lines:
        click.echo(line)
    click.echo(
        f"cheapest that fits: {instance.type} ({instance.gpus} x {instance.gpu}, "
        f"{instance.gpu_memory_gib:g} GiB each, ${instance.price:.3f}/h)"
    )
    kind = config.training.instances.type
    click.echo(f"job.yaml's {kind}: {priced.line if priced else 'price unknown'}")
