"""A job's evaluation from end to end: what is measured, on which rows, and what is written."""

from __future__ import annotations

import functools
import platform
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sm_launch import __version__, artefacts, evaluation, report
from sm_launch.aws_clients import clients_for
from sm_launch.config import JobConfig
from sm_launch.errors import UserInputError
from sm_launch.evaluation.judge import Judge
from sm_launch.evaluation.judgements import Judgements
from sm_launch.progress import progress
from sm_launch.report import ReportPaths
from sm_launch.sessions.protocol import Session
from sm_launch.workplace import Workplace


@dataclass(frozen=True)
class Request:
    """What to evaluate; where nothing is named, the endpoint of job.yaml on its test channel."""

    endpoint: str | None = None
    """An endpoint that answers."""
    model_data: str | None = None
    """Or an artefact on this machine, served meanwhile."""
    transform_output: str | None = None
    """Or what a batch transform job wrote: a directory, a file or an s3:// prefix."""
    data: str | None = None
    """Held-out rows: a file, directory or s3:// URI."""
    slices: Sequence[str] = ()
    """Columns whose every value gets metrics of its own, besides those of job.yaml."""
    output: Path | None = None
    """Directory of the report; default: WORK_DIR/NAME/report."""
    fail_under: Mapping[str, float] = field(default_factory=dict)
    """Gates, besides those of job.yaml."""
    fail_over: Mapping[str, float] = field(default_factory=dict)
    command: str = ""
    """How to do it again, for the report."""


@dataclass(frozen=True)
class Evaluated:
    """A finished evaluation."""

    result: evaluation.EvaluationResult
    gates: list[evaluation.GateResult]
    paths: ReportPaths


def run(open_place: Callable[[], Workplace], config: JobConfig, request: Request) -> Evaluated:
    """Evaluate and write the report. Gates are judged, not enforced: see `require_gates`.

    Args:
        open_place: settles the target; called only where an endpoint is measured.
        config: the job.
        request: what to evaluate.

    Raises:
        UserInputError: the request contradicts itself, or names what is not there.
        EvaluationFailedError: too many rows failed; the report holds which and why.
    """
    _check(request)
    with ExitStack() as stack:
        held_out = _held_out(config, request.data)
        clients = clients_for(config.aws)
        fetch = functools.partial(evaluation.fetch_any, stack=stack, clients=clients)
        rows = evaluation.read_rows(fetch(held_out))
        job = _Job(config, request, rows, _task(config, rows))
        try:
            result = job.measure(open_place, fetch, stack)
        except evaluation.EvaluationFailedError as failed:
            job.write(failed.result)  # the rows that failed, and why
            raise
    gates = evaluation.check_gates(
        result,
        {**config.evaluation.fail_under, **request.fail_under},
        {**config.evaluation.fail_over, **request.fail_over},
    )
    return Evaluated(result, gates, job.write(result, gates))


def _check(request: Request) -> None:
    named = [n for n in ("endpoint", "model_data", "transform_output") if getattr(request, n)]
    if len(named) > 1:
        raise UserInputError(
            "only one thing can be measured at a time",
            field=" and ".join(named),
            fix="name an endpoint, a model artefact or a transform output",
        )


def _task(config: JobConfig, rows: Sequence[Mapping[str, Any]]) -> evaluation.Task:
    wanted = config.evaluation
    return evaluation.make_task(
        wanted.task or evaluation.task_of_method(config.training.method),
        text_column=wanted.text_column,
        label_column=wanted.label_column,
        parameters=wanted.parameters,
        columns=list(rows[0]),
        answer_pattern=wanted.answer_pattern,
    )


def _held_out(config: JobConfig, data: str | None) -> str:
    if data:
        return data
    if config.evaluation.data:
        named = config.evaluation.data
        return named if "://" in named else str(config.path(named))
    prepared = config.prepared_path / "test"
    if not prepared.is_dir():
        raise UserInputError(
            "there is no held-out data",
            field="evaluation.data",
            value=str(prepared),
            fix="run `sm-launch data prepare` first, or name a file with --data",
        )
    return str(prepared)


class _Job:
    """The parts that all sources share."""

    def __init__(
        self,
        config: JobConfig,
        request: Request,
        rows: list[dict[str, Any]],
        task: evaluation.Task,
    ) -> None:
        self._config = config
        self._request = request
        self._rows = rows
        self._task = task
        self._directory = request.output or config.work_path / "report"
        self._training_log: Path | None = None
        self._slices = tuple(dict.fromkeys([*config.evaluation.slices, *request.slices]))

    def measure(
        self, open_place: Callable[[], Workplace], fetch: Callable[[str], Path], stack: ExitStack
    ) -> evaluation.EvaluationResult:
        request = self._request
        if request.transform_output:
            outputs = evaluation.read_outputs(fetch(request.transform_output), len(self._rows))
            return evaluation.evaluate_outputs(
                outputs,
                self._rows,
                task=self._task,
                slices=self._slices,
                judge=self._judge(),
                max_failed_share=self._config.evaluation.max_failed_share,
                info=self._info(target="batch transform", endpoint=request.transform_output),
                progress=progress,
            )
        if request.model_data:
            from sm_launch.evaluation.local import served

            session, name = stack.enter_context(served(self._config, request.model_data))
            model = artefacts.model_uri(session, name)
            content = artefacts.content_sha256(evaluation.local_path(request.model_data))
            return self._endpoint(session, name, model, "local artefact", identity=content)
        workplace = open_place()
        session, name = workplace.session(), request.endpoint or self._config.endpoint_name
        model = artefacts.model_uri(session, name)
        identity = artefacts.deployment(session, name)
        return self._endpoint(session, name, model, workplace.target, identity=identity)

    def _endpoint(
        self, session: Session, name: str, model: str, target: str, *, identity: str
    ) -> evaluation.EvaluationResult:
        wanted = self._config.evaluation
        self._training_log = artefacts.extract_training_log(model, self._directory)
        shown = model if target == "local artefact" else name
        return evaluation.evaluate_endpoint(
            evaluation.session_invoker(session, name),
            self._rows,
            task=self._task,
            slices=self._slices,
            judge=self._judge(),
            perplexity=wanted.perplexity and self._task.name == "text-generation",
            batch_size=wanted.batch_size,
            concurrency=wanted.concurrency,
            max_failed_share=wanted.max_failed_share,
            progress=progress,
            # An interrupted run is continued, but never with another deployment's answers.
            store=evaluation.PredictionStore(self._directory / "predictions.jsonl", identity),
            info=self._info(
                target=target, endpoint=shown, training_job=artefacts.training_job_of(model)
            ),
        )

    def _judge(self) -> Judge | None:
        settings = self._config.evaluation.judge
        if settings is None:
            return None
        # As with predictions: an interrupted run goes on where it stopped.
        kept = Judgements(self._directory / "judgements.jsonl.partial", settings.base_url)
        return Judge(settings, judgements=kept)

    def _info(self, *, target: str, endpoint: str, training_job: str = "") -> evaluation.RunInfo:
        return evaluation.RunInfo(
            endpoint=endpoint,
            training_job=training_job,
            target=target,
            model=self._config.training.model or "",
            data=_held_out(self._config, self._request.data),
            command=self._request.command,
            versions={"sm-launch": __version__, "python": platform.python_version()},
        )

    def write(
        self,
        result: evaluation.EvaluationResult,
        gates: Sequence[evaluation.GateResult] = (),
    ) -> ReportPaths:
        return report.write_evaluation(
            result,
            self._directory,
            gates=gates,
            training_log=self._training_log,
            manifest=self._config.prepared_path / "manifest.json",
        )
