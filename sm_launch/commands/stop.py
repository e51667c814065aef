"""`sm-launch stop`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from sm_launch import contract, training
from sm_launch.aws_errors import is_missing
from sm_launch.commands.options import (
    echo_json,
    find_workplace,
    job_options,
    json_option,
    open_workplace,
)
from sm_launch.config import Target
from sm_launch.errors import LaunchError
from sm_launch.progress import progress
from sm_launch.sessions.protocol import Session

SECONDS_BETWEEN_LOOKS = 0.3


@dataclass(frozen=True)
class _Kind:
    """How a kind of job is called in requests and by people."""

    word: str
    method: str
    prefix: str

    def status(self, session: Session, name: str) -> str:
        """Its status.

        Raises:
            Exception: there is no such job, or it cannot be looked at.
        """
        described = getattr(session, f"describe_{self.method}")(**{f"{self.prefix}Name": name})
        return str(described[f"{self.prefix}Status"])

    def stop(self, session: Session, name: str) -> None:
        """Ask for its end."""
        getattr(session, f"stop_{self.method}")(**{f"{self.prefix}Name": name})


_TRAINING = _Kind("training job", "training_job", "TrainingJob")
_KINDS = (
    _TRAINING,
    _Kind("sweep", "hyper_parameter_tuning_job", "HyperParameterTuningJob"),
    _Kind("transform job", "transform_job", "TransformJob"),
)


@click.command()
@click.argument("jobs", nargs=-1)
@click.option("--no-wait", is_flag=True, help="Return as soon as the stop was asked for.")
@job_options
@json_option
def stop(
    jobs: tuple[str, ...],
    no_wait: bool,
    config_path: Path,
    overrides: tuple[str, ...],
    target: Target | None,
    as_json: bool,
) -> None:
    """Stop training jobs, sweeps or transform jobs: SIGTERM, a checkpoint, then the end.

    Without names: every training job of job.yaml that still runs.
    """
    place = (find_workplace if jobs else open_workplace)(config_path, overrides, target)
    session = place.session()
    if jobs:
        # An unknown name fails before anything is stopped.
        found = list(_named(session, jobs, place.where))
    else:
        own = training.own_jobs(session, place.config, "InProgress")
        found = [(_TRAINING, name) for name in own]
    for kind, name in found:
        if kind.status(session, name) not in contract.TRAINING_FINAL_STATUSES:
            kind.stop(session, name)
    stopped = []
    for kind, name in found:
        status = "Stopping" if no_wait else _wait(session, kind, name)
        stopped.append({"kind": kind.word, "name": name, "status": status})
        if not as_json:
            click.echo(f"{kind.word} {name}: {status}")
    if as_json:
        echo_json(stopped)


def _named(session: Session, names: tuple[str, ...], where: str) -> Iterator[tuple[_Kind, str]]:
    for name in names:
        for kind in _KINDS:
            if _exists(session, kind, name):
                yield kind, name
                break
        else:
            raise LaunchError(
                f"there is no such training job, sweep or transform job ({where})",
                value=name,
                fix="check the name with `sm-launch list`",
            )


def _exists(session: Session, kind: _Kind, name: str) -> bool:
    try:
        kind.status(session, name)
    except Exception as error:
        if not is_missing(error):
            raise
        return False
    return True


def _wait(session: Session, kind: _Kind, name: str) -> str:
    pause = getattr(session, "seconds_between_looks", SECONDS_BETWEEN_LOOKS)
    with progress(f"Stopping {name}") as bar:
        while True:
            status = kind.status(session, name)
            if status in contract.TRAINING_FINAL_STATUSES:
                return status
            bar.update(description=f"Stopping {name}: {status}")
            time.sleep(pause)
