"""`sm-launch evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sm_launch.commands.options import JobOptions, echo_json, job_options, json_option


@click.command()
@job_options
@click.option("--endpoint", metavar="NAME", help="Endpoint to measure. Default: job.yaml's.")
@click.option(
    "--model-data",
    metavar="PATH",
    help="Measure this model.tar.gz or directory: served in a process meanwhile.",
)
@click.option(
    "--transform-output",
    metavar="URI",
    help="Measure what a batch transform job wrote for --data: a directory or an s3:// prefix.",
)
@click.option(
    "--data", metavar="URI", help="Held-out rows, a path or s3://. Default: the test channel."
)
@click.option(
    "--captured",
    metavar="NAME",
    help="Measure the newest requests that this endpoint has captured: its own answers, or those "
    "of --endpoint or --model-data to the same requests.",
)
@click.option(
    "--labels",
    metavar="URI",
    help="What is right, by the ids of captured requests: JSON lines, a path or s3://. Default: "
    "what the endpoint answered.",
)
@click.option("--newest", type=int, metavar="N", help="So many captured requests. Default: 1000.")
@click.option(
    "--benchmark",
    "benchmarks",
    multiple=True,
    metavar="TASK",
    help="Ask a task of lm-evaluation-harness instead, such as gsm8k. Repeatable; `job` stands "
    "for those of job.yaml.",
)
@click.option(
    "--benchmark-files",
    type=click.Path(path_type=Path, file_okay=False),
    help="Directory of task files (YAML). Default: job.yaml's.",
)
@click.option(
    "--slice", "slices", multiple=True, metavar="COLUMN", help="Also measure each of its values."
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where evaluation.json and report.html go. Default: WORK_DIR/NAME/report.",
)
@click.option(
    "--fail-under",
    multiple=True,
    metavar="METRIC=VALUE",
    help="Exit code 3 when a metric is below, such as f1_macro=0.85. Repeatable.",
)
@click.option(
    "--fail-over",
    multiple=True,
    metavar="METRIC=VALUE",
    help="Exit code 3 when a metric is above, such as latency_p95_ms=200. Repeatable.",
)
@click.option(
    "--load", is_flag=True, help="Also find the most requests a second within a limit of p99."
)
@click.option(
    "--p99-ms",
    type=float,
    metavar="MS",
    help="That limit, of a request's latency. Default: job.yaml's evaluation.load.",
)
@json_option
def evaluate(
    options: JobOptions,
    endpoint: str | None,
    model_data: str | None,
    transform_output: str | None,
    data: str | None,
    captured: str | None,
    labels: str | None,
    newest: int | None,
    benchmarks: tuple[str, ...],
    benchmark_files: Path | None,
    slices: tuple[str, ...],
    output: Path | None,
    fail_under: tuple[str, ...],
    fail_over: tuple[str, ...],
    load: bool,
    p99_ms: float | None,
    as_json: bool,
) -> None:
    """Measure a model on held-out data: quality, latency, throughput; write a report.

    What is measured is an endpoint, or with --model-data an artefact on this machine, or with
    --transform-output the answers of a batch transform job, or with --captured live traffic. With
    --load more and more clients ask at a time, until the slowest hundredth of requests takes longer
    than the limit.
    """
    from sm_launch import evaluation
    from sm_launch.evaluation.job.request import Request
    from sm_launch.evaluation.job.run import run

    request = Request(
        endpoint=endpoint,
        model_data=model_data,
        transform_output=transform_output,
        data=data,
        captured=captured,
        labels=labels,
        newest=newest,
        slices=slices,
        output=output,
        fail_under=evaluation.parse_gates(fail_under),
        fail_over=evaluation.parse_gates(fail_over, field="fail_over"),
        benchmarks=benchmarks,
        benchmark_files=benchmark_files,
        load=load,
        p99_ms=p99_ms,
        command=options.as_given(),
    )
    done = run(options.open(), request)
    if as_json:
        gates = [evaluation.gate_dict(gate) for gate in done.gates]
        echo_json(done.result.to_dict() | {"gates": gates})
    else:
        print_summary(evaluation.render_summary(done.result, done.gates))
        click.echo(f"report: {done.paths.report}")
    evaluation.require_gates(done.gates, done.result)


def print_summary(summary: Any) -> None:
    """Print a rich renderable on standard output."""
    from rich.console import Console

    Console().print(summary)
