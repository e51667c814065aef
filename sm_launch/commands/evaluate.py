"""`sm-launch evaluate`."""

from __future__ import annotations

import functools
import platform
from pathlib import Path
from typing import Any

import click

from sm_launch import __version__, artefacts
from sm_launch.commands.options import (
    echo_json,
    job_options,
    json_option,
    next_command,
    open_workplace,
)
from sm_launch.config import JobConfig, Target
from sm_launch.errors import UserInputError
from sm_launch.progress import progress


@click.command()
@job_options
@click.option("--endpoint", metavar="NAME", help="Endpoint to measure. Default: job.yaml's.")
@click.option("--data", metavar="FILE", help="Held-out rows. Default: the test channel.")
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
@json_option
def evaluate(
    config_path: Path,
    overrides: tuple[str, ...],
    target: Target | None,
    endpoint: str | None,
    data: str | None,
    output: Path | None,
    fail_under: tuple[str, ...],
    as_json: bool,
) -> None:
    """Measure an endpoint on held-out data: quality, latency, throughput; write a report."""
    from sm_launch import evaluation, report

    workplace = open_workplace(config_path, overrides, target)
    config = workplace.config
    gates = {**config.evaluation.fail_under, **evaluation.parse_gates(fail_under)}
    held_out = _held_out(config, data)
    rows = evaluation.read_rows(held_out)
    session = workplace.session()
    name = endpoint or config.endpoint_name
    deployed = session.describe_endpoint(EndpointName=name)
    model = artefacts.model_uri(session, name)
    directory = output or config.work_path / "report"
    write = functools.partial(
        report.write_evaluation,
        directory=directory,
        training_log=artefacts.extract_training_log(model, directory),
        manifest=config.prepared_path / "manifest.json",
    )
    try:
        result = evaluation.evaluate_endpoint(
            evaluation.session_invoker(session, name),
            rows,
            text_column=config.evaluation.text_column,
            label_column=config.evaluation.label_column,
            batch_size=config.evaluation.batch_size,
            concurrency=config.evaluation.concurrency,
            max_failed_share=config.evaluation.max_failed_share,
            progress=progress,
            # An interrupted run is continued, but never with another deployment's answers.
            store=evaluation.PredictionStore(
                directory / "predictions.jsonl",
                identity=f"{name} {deployed['CreationTime']} {model}",
            ),
            info=evaluation.RunInfo(
                endpoint=name,
                training_job=artefacts.training_job_of(model),
                target=workplace.target,
                model=config.training.model or "",
                data=str(held_out),
                command=next_command("evaluate", config_path=config_path),
                versions=_versions(),
            ),
        )
    except evaluation.EvaluationFailedError as failed:
        write(failed.result)  # the rows that failed, and why
        raise
    outcomes = evaluation.check_gates(result, gates)
    paths = write(result, gates=outcomes)
    if as_json:
        echo_json(result.to_dict())
    else:
        _print_summary(evaluation.render_summary(result, outcomes))
        click.echo(f"report: {paths.report}")
    evaluation.require_gates(outcomes)


def _versions() -> dict[str, str]:
    return {"sm-launch": __version__, "python": platform.python_version()}


def _held_out(config: JobConfig, data: str | None) -> Path:
    if data:
        return Path(data)
    if config.evaluation.data:
        return config.path(config.evaluation.data)
    prepared = config.prepared_path / "test"
    if not prepared.is_dir():
        raise UserInputError(
            "there is no held-out data",
            field="evaluation.data",
            value=str(prepared),
            fix="run `sm-launch data prepare` first, or name a file with --data",
        )
    return prepared


def _print_summary(summary: Any) -> None:
    from rich.console import Console

    Console().print(summary)
