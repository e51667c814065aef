"""A job's evaluation from end to end: what is measured, on which rows, and what is written."""

from __future__ import annotations

import functools
import platform
import tarfile
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sm_launch import evaluation
from sm_launch.aws.clients import raw_data_clients
from sm_launch.errors import UserInputError
from sm_launch.evaluation.job import artefacts, costs
from sm_launch.evaluation.judge import Judge
from sm_launch.evaluation.judgements import Judgements
from sm_launch.evaluation.report import ReportPaths, write_evaluation
from sm_launch.hosting import endpoints
from sm_launch.job.config import JobConfig
from sm_launch.job.hub_models import SCHEME
from sm_launch.job.million import load_types
from sm_launch.job.tasks import classifier_task
from sm_launch.progress import progress
from sm_launch.sessions import sending_once
from sm_launch.sessions.protocol import Session
from sm_launch.target.context import JobContext
from sm_launch.version import launcher_version


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
    benchmarks: Sequence[str] = ()
    """Tasks of lm-evaluation-harness instead of rows; `job` stands for those of job.yaml."""
    benchmark_files: Path | None = None
    """Directory of task files."""
    load: bool = False
    """Also find the throughput at a limit of latency, as `evaluation.load` says."""
    p99_ms: float | None = None
    """The limit, in its place."""
    command: str = ""
    """How to do it again, for the report."""


@dataclass(frozen=True)
class Evaluated:
    """A finished evaluation."""

    result: evaluation.EvaluationResult
    gates: list[evaluation.GateResult]
    paths: ReportPaths


def run(context: JobContext, request: Request) -> Evaluated:
    """Evaluate and write the report. Gates are judged, not enforced: see `require_gates`.

    Args:
        context: the job, and where its endpoint is.
        request: what to evaluate.

    Raises:
        UserInputError: the request contradicts itself, or names what is not there.
        EvaluationFailedError: too many rows failed; the report holds which and why.
    """
    _check(request)
    if request.benchmarks:
        return _benchmark(context, request)
    config = context.config
    with ExitStack() as stack:
        held_out = _held_out(config, request.data)
        clients = raw_data_clients(config.aws)
        fetch = functools.partial(evaluation.fetch_any, stack=stack, clients=clients)
        source = fetch(held_out)
        rows = evaluation.read_rows(source)
        sha256 = evaluation.files_sha256(evaluation.data_files(source))
        job = _Job(context, request, rows, sha256)
        try:
            result = job.measure(fetch, stack)
        except evaluation.EvaluationFailedError as failed:
            job.write(failed.result)  # the rows that failed, and why
            raise
    gates = evaluation.check_gates(
        result,
        {**config.evaluation.fail_under, **request.fail_under},
        {**config.evaluation.fail_over, **request.fail_over},
    )
    return Evaluated(result, gates, job.write(result, gates))


def _benchmark(context: JobContext, request: Request) -> Evaluated:
    from sm_launch.evaluation.job import benchmarking

    if request.transform_output or request.data or request.slices or request.load:
        raise UserInputError(
            "a benchmark brings its own questions: leave out data, slices, load and transform "
            "output",
            field="--benchmark",
            value=" ".join(request.benchmarks),
        )
    wanted = benchmarking.Wanted(
        tasks=tuple(task for task in request.benchmarks if task != "job"),
        files=request.benchmark_files,
        endpoint=request.endpoint,
        model_data=request.model_data,
        output=request.output,
        fail_under=request.fail_under,
        fail_over=request.fail_over,
        command=" ".join([request.command, *(f"--benchmark {t}" for t in request.benchmarks)]),
    )
    return Evaluated(*benchmarking.run(context, wanted))


def _check(request: Request) -> None:
    named = [n for n in ("endpoint", "model_data", "transform_output") if getattr(request, n)]
    if len(named) > 1:
        raise UserInputError(
            "only one thing can be measured at a time",
            field=" and ".join(named),
            fix="name an endpoint, a model artefact or a transform output",
        )
    if request.load and request.transform_output:
        raise UserInputError(
            "needs something that answers, and a transform output is there already",
            field="--load",
            fix="name an endpoint or a model artefact",
        )
    if request.p99_ms is not None and (request.p99_ms <= 0 or not request.load):
        raise UserInputError(
            "is the limit of --load, in milliseconds and above 0",
            field="--p99-ms",
            value=request.p99_ms,
            fix="add --load, or leave it out",
        )


def _task(
    config: JobConfig,
    rows: Sequence[Mapping[str, Any]],
    artefact: evaluation.Artefact | None,
) -> evaluation.Task:
    """What is asked, and how: as job.yaml says, else as the artefact does, else as its training."""
    wanted = config.evaluation
    name = wanted.task or _task_of(config, artefact)
    kind = evaluation.TASKS[name]
    told = artefact.asked(kind.trained_by or name) if artefact else ({}, {})
    parameters, columns = told if any(told) else ({}, _columns_of_training(config, kind))
    known: set[str] = set().union(*rows)
    text = columns.get("text", columns.get("question", columns.get("tokens")))
    return evaluation.make_task(
        name,
        text_column=wanted.text_column or _if_in(text, known),
        label_column=wanted.label_column or _if_in(columns.get("label"), known),
        parameters={**parameters, **wanted.parameters},
        columns=list(rows[0]),
        pair_column=wanted.text_pair_column or columns.get("text_pair"),
        known_labels=artefact.labels if artefact else (),
        answer_pattern=wanted.answer_pattern,
    )


def _task_of(config: JobConfig, artefact: evaluation.Artefact | None) -> str:
    """What the method trains for; a classifier's problem_type says whether classes are several."""
    name = evaluation.task_of_method(config.training.method)
    if not evaluation.TASKS[name].calibrated:
        return name
    said: Mapping[str, Any] = config.training.hyperparameters
    if artefact is not None:
        said = {"problem_type": artefact.config.get("problem_type")}
    return evaluation.task_of_method(classifier_task(said))


def _if_in(column: str | None, known: Collection[str]) -> str | None:
    """The column where the data has it: prepared data may go by the task's own names."""
    return column if column in known else None


def _columns_of_training(config: JobConfig, kind: type[evaluation.Task]) -> dict[str, str]:
    """The columns that job.yaml names for training, by the names of the pipeline's inputs."""
    if config.training.method != (kind.trained_by or kind.name):
        return {}
    given = config.training.hyperparameters
    names = {
        "text": kind.text_key,
        "text_pair": "text_pair_column",
        "tokens": "tokens_column",
        "label": kind.label_key,
    }
    return {ours: str(given[key]) for ours, key in names.items() if given.get(key)}


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
        context: JobContext,
        request: Request,
        rows: list[dict[str, Any]],
        sha256: str,
    ) -> None:
        self._context = context
        self._config = config = context.config
        self._request = request
        self._rows = rows
        self._sha256 = sha256
        self._notes: list[str] = []
        self._directory = request.output or config.work_path / "report"
        self._training_log: Path | None = None
        self._slices = tuple(dict.fromkeys([*config.evaluation.slices, *request.slices]))

    def measure(
        self, fetch: Callable[[str], Path], stack: ExitStack
    ) -> evaluation.EvaluationResult:
        request = self._request
        if request.transform_output:
            outputs = evaluation.read_outputs(fetch(request.transform_output), len(self._rows))
            info = self._info(target="batch transform", endpoint=request.transform_output)
            return evaluation.evaluate_outputs(outputs, self._rows, self._plan(None, info))
        if request.model_data:
            from sm_launch.evaluation.job.local import served

            session, name = stack.enter_context(served(self._config, request.model_data))
            model = artefacts.model_uri(session, name)
            if model.startswith(SCHEME):
                content = artefacts.deployment(session, name)
            else:
                content = artefacts.content_sha256(evaluation.local_path(request.model_data))
            return self._endpoint(session, name, model, "local artefact", identity=content)
        context = self._context
        session, name = context.session, endpoints.require_meant(context, request.endpoint)
        asked = artefacts.addressed(session, name)
        model = artefacts.model_uri(session, name)
        identity = artefacts.deployment(session, name)
        return self._endpoint(session, name, model, context.target, identity=identity, asked=asked)

    def _endpoint(
        self,
        session: Session,
        name: str,
        model: str,
        target: str,
        *,
        identity: str,
        asked: Mapping[str, str] | None = None,
    ) -> evaluation.EvaluationResult:
        artefact = self._read_artefact(model)
        self._training_log = artefacts.extract_training_log(model, self._directory)
        shown = model if target == "local artefact" else name
        info = self._info(
            target=target,
            endpoint=shown,
            training_job=artefacts.training_job_of(model),
            artefact=model,
            base=model if model.startswith(SCHEME) else "",
        )
        # An interrupted run is continued, but never with another deployment's answers.
        store = evaluation.PredictionStore(self._directory / "predictions.jsonl", identity)
        result = evaluation.evaluate_endpoint(
            evaluation.session_invoker(session, name, **(asked or {})),
            self._rows,
            replace(self._plan(artefact, info), store=store, load=self._load(session, name, asked)),
        )
        if result.load is not None:
            result = self._priced(result, session, name, target)
        result = replace(result, warnings=(*self._notes, *result.warnings))
        return evaluation.beside_training(result, artefact, self._sha256) if artefact else result

    def _priced(
        self, result: evaluation.EvaluationResult, session: Session, name: str, target: str
    ) -> evaluation.EvaluationResult:
        """What a million requests cost: where it was measured, and on the types asked for."""
        hosts = costs.hosts_of(session, name) if target == "sagemaker" else []
        types = self._config.evaluation.load.instance_types
        types = types or ([] if hosts else load_types(self._config))
        assert result.load is not None
        test, notes = costs.priced(result.load, hosts, types, self._context.prices)
        self._notes += notes
        return replace(result, load=test)

    def _load(
        self, session: Session, name: str, asked: Mapping[str, str] | None
    ) -> evaluation.LoadPlan | None:
        if not self._request.load:
            return None
        wanted = self._config.evaluation.load
        limit = self._request.p99_ms or wanted.p99_ms
        invoke = evaluation.session_invoker(sending_once(session), name, **(asked or {}))
        return evaluation.LoadPlan(limit, wanted.max_concurrency, wanted.seconds, invoke)

    def _plan(
        self, artefact: evaluation.Artefact | None, info: evaluation.RunInfo
    ) -> evaluation.EvaluationPlan:
        wanted = self._config.evaluation
        task = _task(self._config, self._rows, artefact)
        return evaluation.EvaluationPlan(
            task=task,
            slices=self._slices,
            judge=self._judge(),
            perplexity=wanted.perplexity and task.name == "text-generation",
            batch_size=wanted.batch_size,
            concurrency=wanted.concurrency,
            max_failed_share=wanted.max_failed_share,
            info=info,
            progress=progress,
        )

    def _read_artefact(self, model: str) -> evaluation.Artefact | None:
        try:
            artefact = evaluation.read_artefact(model, self._context.clients)
            problem = "" if artefact else "there is none"
        except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
            artefact, problem = None, str(error)
        if problem:
            self._notes.append(
                f"config.json of {model} was not read ({problem}): the model is asked as job.yaml "
                "says, and not compared with what its training measured"
            )
        return artefact

    def _judge(self) -> Judge | None:
        settings = self._config.evaluation.judge
        if settings is None:
            return None
        # As with predictions: an interrupted run goes on where it stopped.
        kept = Judgements(self._directory / "judgements.jsonl.partial", settings.base_url)
        return Judge(settings, judgements=kept)

    def _info(
        self,
        *,
        target: str,
        endpoint: str,
        training_job: str = "",
        artefact: str = "",
        base: str = "",
    ) -> evaluation.RunInfo:
        return evaluation.RunInfo(
            endpoint=endpoint,
            training_job=training_job,
            artefact=artefact,
            target=target,
            model=base or self._config.training.model or "",
            data=_held_out(self._config, self._request.data),
            command=self._request.command,
            versions={"sm-launch": launcher_version(), "python": platform.python_version()},
        )

    def write(
        self,
        result: evaluation.EvaluationResult,
        gates: Sequence[evaluation.GateResult] = (),
    ) -> ReportPaths:
        return write_evaluation(
            result,
            self._directory,
            gates=gates,
            training_log=self._training_log,
            manifest=self._config.prepared_path / "manifest.json",
        )
