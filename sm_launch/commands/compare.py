"""`sm-launch compare`."""

from __future__ import annotations

from pathlib import Path

import click

from sm_launch.commands.evaluate import print_summary
from sm_launch.commands.options import JobOptions, echo_json, job_options, json_option


@click.command()
@click.argument("first")
@click.argument("second")
@job_options
@click.option("--data", metavar="URI", help="Held-out rows, where endpoints are compared.")
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("comparison"),
    show_default=True,
    help="Where comparison.json and comparison.html go.",
)
@click.option(
    "--min-shared",
    type=click.FloatRange(0, 1),
    default=0.8,
    show_default=True,
    help="Share of the rows that both models must have answered.",
)
@click.option(
    "--fail-if-worse",
    multiple=True,
    metavar="METRIC",
    help="Exit code 3 when SECOND is significantly worse in it. Repeatable.",
)
@json_option
def compare(
    first: str,
    second: str,
    options: JobOptions,
    data: str | None,
    output: Path,
    min_shared: float,
    fail_if_worse: tuple[str, ...],
    as_json: bool,
) -> None:
    """Compare two models on the same rows: exact and exchange tests, corrected for their number.

    FIRST and SECOND are reports of `sm-launch evaluate` (a directory, or its predictions.jsonl), or
    names of endpoints, which are then evaluated.
    """
    from sm_launch.evaluation.job import compare as comparing
    from sm_launch.evaluation.summary import render_comparison

    comparison, page = comparing.run(
        (first, second),
        options.open,
        data=data,
        output=output,
        min_shared=min_shared,
    )
    if as_json:
        echo_json(comparison.to_dict())
    else:
        print_summary(render_comparison(comparison))
        click.echo(f"report: {page}")
    comparing.require_not_worse(comparison, fail_if_worse)
