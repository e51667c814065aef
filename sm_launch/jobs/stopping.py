"""Jobs of any kind, ended before their time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass

from sm_launch.aws.errors import SuppressMissing
from sm_launch.errors import LaunchError
from sm_launch.job import limits
from sm_launch.jobs import training
from sm_launch.progress import progress
from sm_launch.sessions.protocol import Session
from sm_launch.sessions.watching import watch
from sm_launch.target.context import JobContext


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


@dataclass(frozen=True)
class Stopped:
    """A job whose end was asked for, with its status since."""

    kind: str
    name: str
    status: str

    def as_dict(self) -> dict[str, str]:
        """For JSON."""
        return asdict(self)


def stop(
    context: JobContext,
    names: Sequence[str] = (),
    *,
    wait: bool = True,
    on_stopped: Callable[[Stopped], None] = lambda job: None,
) -> list[Stopped]:
    """Stop training jobs, sweeps or transform jobs: SIGTERM, a checkpoint, then the end.

    Args:
        context: where they run.
        names: of the jobs; default: every training job of job.yaml that still runs.
        wait: until they have ended; else return as soon as it was asked for.
        on_stopped: gets each job in turn.

    Raises:
        LaunchError: there is no job of a name; nothing is stopped then.
    """
    session = context.session
    if names:
        jobs = list(_named(session, names, context.where))
    else:
        own = training.own_jobs(session, context.config, "InProgress")
        jobs = [(_TRAINING, name) for name in own]
    for kind, name in jobs:
        if kind.status(session, name) not in limits.TRAINING_FINAL_STATUSES:
            kind.stop(session, name)
    stopped = []
    for kind, name in jobs:
        status = _wait(session, kind, name) if wait else "Stopping"
        stopped.append(Stopped(kind.word, name, status))
        on_stopped(stopped[-1])
    return stopped


def _named(session: Session, names: Sequence[str], where: str) -> Iterator[tuple[_Kind, str]]:
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
    with SuppressMissing():
        kind.status(session, name)
        return True
    return False


def _wait(session: Session, kind: _Kind, name: str) -> str:
    with progress(f"Stopping {name}") as bar:
        for status in watch(
            lambda: kind.status(session, name),
            limits.TRAINING_FINAL_STATUSES.__contains__,
            session.seconds_between_looks,
        ):
            bar.update(description=f"Stopping {name}: {status}")
    return status
