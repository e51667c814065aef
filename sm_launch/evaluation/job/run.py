"""A job's evaluation from end to end: what is measured, on which rows, and what is written."""

from __future__ import annotations

import functools
import platform
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sm_launch import evaluation
from sm_launch.aws.clients import raw_data_clients
from sm_launch.errors import UserInputError
from sm_launch.evaluation.job import artefacts, captured, costs, held_out
from sm_launch.evaluation.job.asking import artefact_of, task_of
from sm_launch.evaluation.job.request import Request
from sm_launch.evaluation.judge import Judge
from sm_launch.evaluation.judgements import Judgements
from sm_launch.evaluation.report import ReportPaths, write_evaluation
from sm_launch.hosting import endpoints
from sm_launch.job.hub_models import SCHEME
from sm_launch.job.million import load_types
from sm_launch.progress import progress
from sm_launch.sessions import sending_once
from sm_launch.sessions.protocol import Session
from sm_launch.target.context import JobContext
from sm_launch.version import launcher_version


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
        clients = raw_data_clients(config.aws)
        fetch = functools.partial(evaluation.fetch_any, stack=stack, clients=clients)
        if request.captured:
            traffic = captured.traffic(context, request, fetch)
            job = _Job(context, request, traffic.rows, "", traffic)
        else:
            rows = held_out.read(config, request.data, fetch)
            job = _Job(context, request, rows.rows, rows.sha256, slices=rows.slices)
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
        command=request.command,
    )
    return Evaluated(*benchmarking.run(context, wanted))


def _check(request: Request) -> None:
    captured.check(request)
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


class _Job:
    """The parts that all sources share."""

    def __init__(
        self,
        context: JobContext,
        request: Request,
        rows: list[dict[str, Any]],
        sha256: str,
        traffic: captured.Traffic | None = None,
        slices: tuple[str, ...] = (),
    ) -> None:
        self._context = context
        self._config = config = context.config
        self._request = request
        self._rows = rows
        self._sha256 = sha256
        self._traffic = traffic
        self._notes: list[str] = list(traffic.notes) if traffic else []
        self._directory = request.output or config.work_path / "report"
        self._training_log: Path | None = None
        self._slices = tuple(dict.fromkeys([*config.evaluation.slices, *request.slices, *slices]))

    def measure(
        self, fetch: Callable[[str], Path], stack: ExitStack
    ) -> evaluation.EvaluationResult:
        context, request = self._context, self._request
        if request.transform_output:
            outputs = evaluation.read_outputs(fetch(request.transform_output), len(self._rows))
            info = self._info(target="batch transform", endpoint=request.transform_output)
            return evaluation.evaluate_outputs(outputs, self._rows, self._plan(None, info))
        if request.model_data:
            from sm_launch.evaluation.job.local import served

            session, name = stack.enter_context(served(context, request.model_data))
            model = artefacts.model_uri(session, name)
            if model.startswith(SCHEME):
                content = artefacts.deployment(session, name)
            else:
                content = artefacts.content_sha256(evaluation.local_path(model))
            named = request.model_data if request.model_data.startswith("s3://") else model
            return self._endpoint(
                session, name, model, "local artefact", identity=content, named=named
            )
        if self._traffic and not request.endpoint:
            return self._own_answers(self._traffic)
        session, name = context.session, endpoints.require_meant(context, request.endpoint)
        asked = artefacts.addressed(session, name)
        model = artefacts.model_uri(session, name)
        identity = artefacts.deployment(session, name)
        return self._endpoint(session, name, model, context.target, identity=identity, asked=asked)

    def _own_answers(self, traffic: captured.Traffic) -> evaluation.EvaluationResult:
        """What an endpoint has answered already."""
        name = str(self._request.captured)
        model = artefacts.model_uri(self._context.session, name)
        job = artefacts.training_job_of(model)
        info = self._info(
            target=self._context.target, endpoint=name, training_job=job, artefact=model
        )
        plan = self._plan(self._read_artefact(model), info)
        result = evaluation.evaluate_outputs(traffic.answers, traffic.rows, plan)
        return replace(result, warnings=(*self._notes, *result.warnings))

    def _endpoint(
        self,
        session: Session,
        name: str,
        model: str,
        target: str,
        *,
        identity: str,
        asked: Mapping[str, str] | None = None,
        named: str = "",
    ) -> evaluation.EvaluationResult:
        """Of what answers; `named` is where a model that is served for this alone comes from."""
        artefact = self._read_artefact(model)
        self._training_log = artefacts.extract_training_log(model, self._directory)
        info = self._info(
            target=target,
            endpoint=named or name,
            training_job=artefacts.training_job_of(named or model),
            artefact=named or model,
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
        task = task_of(self._config, self._rows, artefact)
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
        artefact, problem = artefact_of(self._context, model)
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
            data=f"captured by {self._request.captured}"
            if self._traffic
            else ", ".join(held_out.locations(self._config, self._request.data).values()),
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
