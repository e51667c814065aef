"""`evaluate --benchmark`: an endpoint or artefact on standard tasks, with the usual report."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from sm_launch import evaluation
from sm_launch.errors import UserInputError
from sm_launch.evaluation.bridge import bridge
from sm_launch.evaluation.harness import TASK, Measurements, require_harness, run_harness
from sm_launch.evaluation.job import artefacts
from sm_launch.evaluation.report import ReportPaths, write_evaluation
from sm_launch.evaluation.result import RunInfo, TextMetrics
from sm_launch.hosting import endpoints
from sm_launch.job.evaluation import Benchmark
from sm_launch.progress import progress
from sm_launch.target.context import JobContext
from sm_launch.version import launcher_version


@dataclass(frozen=True)
class Wanted:
    """Which benchmarks of what.

    Attributes:
        tasks: names of the harness; empty: job.yaml's.
        files: a directory of task files; default: job.yaml's.
        endpoint: that answers; default: job.yaml's.
        model_data: or an artefact, served on this machine meanwhile.
        output: directory of the report; default: WORK_DIR/NAME/benchmark.
        fail_under: gates, besides those of `evaluation.benchmark`.
        fail_over: likewise, from above.
        command: how to do it again.
    """

    tasks: tuple[str, ...]
    files: Path | None
    endpoint: str | None
    model_data: str | None
    output: Path | None
    fail_under: Mapping[str, float]
    fail_over: Mapping[str, float]
    command: str = ""


def run(
    context: JobContext, wanted: Wanted
) -> tuple[evaluation.EvaluationResult, list[evaluation.GateResult], ReportPaths]:
    """Ask, and write the report. Gates are judged, not enforced.

    Raises:
        UserInputError: no task is named, or the harness is not installed.
        LaunchError: the harness failed.
    """
    settings = _settings(context, wanted)
    files = wanted.files or (
        context.config.path(settings.files) if settings.files is not None else None
    )
    if files is not None and not files.is_dir():
        raise UserInputError(
            "there is no such directory", field="--benchmark-files", value=str(files)
        )
    require_harness()
    directory = wanted.output or context.config.work_path / "benchmark"
    started, clock = datetime.now(UTC), time.monotonic()
    with ExitStack() as stack:
        session, name, target = context.session, "", context.target
        asked: dict[str, str] = {}
        if wanted.model_data:
            from sm_launch.evaluation.job.local import served

            session, name = stack.enter_context(served(context, wanted.model_data))
            shown = wanted.model_data
        else:
            shown = name = endpoints.require_meant(context, wanted.endpoint)
            asked = artefacts.addressed(session, name)
        model = artefacts.model_uri(session, name)
        given = wanted.model_data or ""
        named = given if given.startswith("s3://") else model
        url = stack.enter_context(bridge(session, name, asked))
        with progress(f"Benchmark {', '.join(settings.tasks)}"):
            measured = run_harness(
                settings, base_url=url, model=name, files=files, directory=directory / "lm_eval"
            )
    result = _result(settings, measured, RunInfo(
        endpoint=shown,
        training_job=artefacts.training_job_of(named),
        artefact=named,
        target="local artefact" if wanted.model_data else target,
        model=context.config.training.model or "",
        data=", ".join(settings.tasks),
        command=wanted.command,
        versions=_versions(),
    ))  # fmt: skip
    result = replace(result, started_at=started.isoformat(timespec="seconds"),
                     duration_s=time.monotonic() - clock)  # fmt: skip
    gates = evaluation.check_gates(
        result,
        {**settings.fail_under, **wanted.fail_under},
        {**settings.fail_over, **wanted.fail_over},
    )
    return result, gates, write_evaluation(result, directory, gates=gates)


def _settings(context: JobContext, wanted: Wanted) -> Benchmark:
    known = context.config.evaluation.benchmark or Benchmark()
    tasks = [*wanted.tasks] or known.tasks
    if not tasks:
        raise UserInputError(
            "names no task",
            field="--benchmark",
            fix="name one, such as --benchmark gsm8k, or set evaluation.benchmark.tasks",
        )
    return known.model_copy(update={"tasks": tasks})


def _result(
    settings: Benchmark, measured: Measurements, info: RunInfo
) -> evaluation.EvaluationResult:
    return evaluation.EvaluationResult(
        rows_total=measured.rows,
        predictions=measured.predictions,
        failures=(),
        metrics=TextMetrics(measured.metrics),
        latency=None,
        throughput=None,
        retries=0,
        started_at="",
        duration_s=0.0,
        warnings=(f"only the first {settings.limit} questions of each task",)
        if settings.limit
        else (),
        info=info,
        task=TASK,
        main_metric=next(iter(measured.metrics), ""),
        intervals=measured.intervals,
    )


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {"sm-launch": launcher_version(), "lm_eval": version("lm_eval"),
            "python": platform.python_version()}  # fmt: skip
