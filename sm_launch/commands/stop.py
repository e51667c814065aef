"""`sm-launch stop`."""

from __future__ import annotations

import time
from pathlib import Path

import click

from sm_launch import contract, training
from sm_launch.commands.options import job_options
from sm_launch.config import Target, load_config, resolve_target
from sm_launch.progress import progress
from sm_launch.sessions import open_session
from sm_launch.sessions.protocol import Session

SECONDS_BETWEEN_LOOKS = 0.3


@click.command()
@click.argument("jobs", nargs=-1)
@click.option("--no-wait", is_flag=True, help="Return as soon as the stop was asked for.")
@job_options
def stop(
    jobs: tuple[str, ...],
    no_wait: bool,
    config_path: Path,
    overrides: tuple[str, ...],
    target: Target | None,
) -> None:
    """Stop training jobs: SIGTERM, a checkpoint, then the end.

    Without names: every job of job.yaml that still runs.
    """
    config = None if jobs else load_config(config_path, overrides)
    session = open_session(
        resolve_target(config, target), region=config.aws.region if config else None
    )
    names = jobs or (training.jobs_of(session, config.name, "InProgress") if config else ())
    for name in names:
        session.stop_training_job(TrainingJobName=name)
    for name in names:
        status = "Stopping" if no_wait else _wait(session, name)
        click.echo(f"training job {name}: {status}")


def _wait(session: Session, name: str) -> str:
    with progress(f"Stopping {name}") as bar:
        while True:
            status: str = session.describe_training_job(TrainingJobName=name)["TrainingJobStatus"]
            if status in contract.TRAINING_FINAL_STATUSES:
                return status
            bar.update(description=f"Stopping {name}: {status}")
            time.sleep(SECONDS_BETWEEN_LOOKS)
