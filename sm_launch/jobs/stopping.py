"""Jobs of any kind, ended before their time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sm_launch.aws.errors import SuppressMissing
from sm_launch.aws.paging import every
from sm_launch.errors import LaunchError
from sm_launch.job import limits, naming
from sm_launch.progress import progress
from sm_launch.sessions.protocol import Session
from sm_launch.sessions.watching import watch
from sm_launch.target import ownership
from sm_launch.target.context import JobContext


@dataclass(frozen=True)
class _Kind:
    """How a kind of job is called in requests and by people.

    Attributes:
        word: what people call it.
        method: behind `describe_` and `stop_`.
        prefix: of SageMaker's names of its fields.
        key: the field by which it is asked for.
    """

    word: str
    method: str
    prefix: str
    key: str

    def status(self, session: Session, name: str) -> str:
        """Its status.

        Raises:
            Exception: there is no such job, or it cannot be looked at.
        """
        described = getattr(session, f"describe_{self.method}")(**{self.key: name})
        return str(described[f"{self.prefix}Status"])

    def stop(self, session: Session, name: str) -> None:
        """Ask for its end."""
        getattr(session, f"stop_{self.method}")(**{self.key: name})

    def running(self, session: Session, config_name: str) -> Iterator[dict[str, Any]]:
        """Summaries of those whose names are made of a job.yaml's, and that still run."""
        listed = every(
            getattr(session, f"list_{self.method}s"),
            f"{self.prefix}Summaries",
            NameContains=naming.cut(config_name),
            StatusEquals="InProgress",
        )
        return (each for each in listed if naming.is_made_of(each[self.key], config_name))


def _job_kind(word: str, method: str) -> _Kind:
    prefix = "".join(part.title() for part in method.split("_"))
    return _Kind(word, method, prefix, f"{prefix}Name")


# A sweep before its trials: it starts others in place of those that end.
_KINDS = (
    _job_kind("sweep", "hyper_parameter_tuning_job"),
    _job_kind("training job", "training_job"),
    _job_kind("transform job", "transform_job"),
)
_PROCESSING = _job_kind("processing job", "processing_job")
_EXECUTION = _Kind("pipeline execution", "pipeline_execution", "PipelineExecution",
                   "PipelineExecutionArn")  # fmt: skip
# Service model, PipelineExecutionStatus; of jobs, the statuses of each kind's Describe answer.
_OVER = limits.TRAINING_FINAL_STATUSES | {"Succeeded", "DeleteFailed"}
Job = tuple[_Kind, str]


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
    """Stop what runs and would end by itself: a training gets SIGTERM and keeps a checkpoint.

    Args:
        context: where they run.
        names: of jobs of any kind, or of pipelines whose executions are meant; default: all of
            job.yaml's own.
        wait: until they have ended; else return as soon as it was asked for.
        on_stopped: gets each job in turn.

    Raises:
        LaunchError: there is no job of a name; nothing is stopped then.
    """
    session = context.session
    jobs = [job for name in names for job in _named(context, name)]
    if not names:
        jobs = list(_own(context))
        if not jobs:
            context.notify(f"nothing of {context.config.name} runs ({context.where})")
    before = {job: job[0].status(session, job[1]) for job in jobs}
    for (kind, name), status in before.items():
        if status not in {*_OVER, "Stopping"}:
            kind.stop(session, name)
    stopped = []
    for kind, name in jobs:
        over = before[kind, name] in _OVER
        status = _wait(session, kind, name) if wait or over else "Stopping"
        stopped.append(Stopped(kind.word, name, status))
        on_stopped(stopped[-1])
    return stopped


def _kinds(context: JobContext) -> tuple[_Kind, ...]:
    return (*_KINDS, _PROCESSING) if context.on_aws else _KINDS


def _named(context: JobContext, name: str) -> list[Job]:
    if context.on_aws and (jobs := _executions(context.session, name)):
        return jobs
    for kind in _kinds(context):
        if _exists(context.session, kind, name):
            return [(kind, name)]
    raise _not_to_stop(context, name)


def _executions(session: Any, name: str, *, newest: bool = True) -> list[Job]:
    """A pipeline's executions that run, or that of an ARN; else the `newest`, which is over."""
    if ":pipeline/" in name:
        return [(_EXECUTION, name)]
    listed = []
    with SuppressMissing():
        listed = list(every(session.list_pipeline_executions, "PipelineExecutionSummaries",
                            PipelineName=name, SortBy="CreationTime",
                            SortOrder="Descending"))  # fmt: skip
    run = [each for each in listed if each["PipelineExecutionStatus"] in {"Executing", "Stopping"}]
    meant = run or (listed[:1] if newest else [])
    return [(_EXECUTION, str(each["PipelineExecutionArn"])) for each in meant]


def _own(context: JobContext) -> Iterator[Job]:
    """All of job.yaml's that runs, without what is another job's of that name."""
    session, config = context.session, context.config
    if context.on_aws:
        pipelines = every(
            context.clients("sagemaker").list_pipelines, "PipelineSummaries",
            PipelineNamePrefix=config.name,
        )  # fmt: skip
        for each in pipelines:
            running = _executions(session, str(each["PipelineName"]), newest=False)
            if running and _is_own(context, each["PipelineArn"]):
                yield from running
    for kind in _kinds(context):
        for each in kind.running(session, config.name):
            if _is_own(context, each[f"{kind.prefix}Arn"]):
                yield kind, str(each[kind.key])


def _is_own(context: JobContext, arn: str) -> bool:
    tags = ownership.tags_of(context.session, arn)
    return ownership.stranger(tags, context.config) is None


def _not_to_stop(context: JobContext, name: str) -> LaunchError:
    """Why nothing of that name is stopped, and what is done with it instead."""
    session: Any = context.session
    instead: dict[str, tuple[Callable[[], Any], str]] = {
        "an endpoint, which answers until it is deleted":
            (lambda: session.describe_endpoint(EndpointName=name), f"sm-launch delete {name}"),
    }  # fmt: skip
    if context.on_aws:
        instead |= {
            "a pipeline, of which nothing has run yet":
                (lambda: session.describe_pipeline(PipelineName=name), ""),
            "a schedule, which starts jobs until it is deleted":
                (lambda: context.clients("scheduler").get_schedule(Name=name),
                 "sm-launch schedule --off"),
        }  # fmt: skip
    for what, (look, command) in instead.items():
        with SuppressMissing():
            look()
            fix = f"run `{command}`" if command else None
            return LaunchError(f"is no job, but {what} ({context.where})", value=name, fix=fix)
    return LaunchError(
        f"there is no such job, sweep or pipeline ({context.where})",
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
            _OVER.__contains__,
            session.seconds_between_looks,
        ):
            bar.update(description=f"Stopping {name}: {status}")
    return status
