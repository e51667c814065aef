"""An optimized model beside the one that it was made from: the job's figures, and a paired test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sm_launch import evaluation
from sm_launch.errors import LaunchError, UserInputError
from sm_launch.evaluation import Comparison
from sm_launch.evaluation.job import compare as comparing
from sm_launch.evaluation.job import run as evaluation_run
from sm_launch.evaluation.job.request import Request
from sm_launch.hosting import endpoints
from sm_launch.job import naming
from sm_launch.job.config import JobConfig
from sm_launch.job.tasks import TASKS
from sm_launch.jobs import live, optimization
from sm_launch.jobs.chaining import artefact_uri
from sm_launch.report.numbers import decimal, equals, p_value
from sm_launch.target.context import JobContext

if TYPE_CHECKING:
    from rich.console import Group

_OF_SPEAKERS = ("fp8", "int4")
_SPEAKING = ("ForCausalLM", "LMHeadModel")
KEY = "optimization"
"""Of eval_results.json: what the job measured of both models."""
_COSTS = {
    "bytes": ("size, MB", 1e6, 1),
    "memory_bytes": ("memory, MB", 1e6, 1),
    "latency_p50_ms": ("latency p50, ms", 1.0, 2),
    "latency_p99_ms": ("latency p99, ms", 1.0, 2),
    "texts_per_second": ("throughput, texts/s", 1.0, 1),
}


@dataclass(frozen=True)
class Optimized:
    """What an optimization has made.

    Attributes:
        job: name of the training job.
        model: URI of the new artefact.
        former: URI of the one that it was made from.
        measured: what the job measured of both.
        comparison: both served on the held-out rows and compared; None where they were not.
        report: the comparison's page.
    """

    job: str
    model: str
    former: str
    measured: Mapping[str, Any]
    comparison: Comparison | None = None
    report: Path | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "job": self.job,
            "model": self.model,
            "former": self.former,
            "measured": dict(self.measured),
            "comparison": self.comparison.to_dict() if self.comparison else None,
            "report": str(self.report) if self.report else None,
        }


def prepare(
    context: JobContext,
    job: str | None = None,
    model_data: str | None = None,
    *,
    max_cost: float | None = None,
    upload: bool = True,
) -> tuple[str, naming.Request]:
    """The model that is optimized, and the job's request: everything checked, priced and staged.

    Args:
        context: the job whose model it is.
        job: the training job; default: the newest that completed.
        model_data: another artefact instead.
        max_cost: US dollars; default: job.yaml's limit, if it has one.
        upload: False sends nothing.

    Raises:
        LaunchError: what `optimization.prepare` raises, or a precision that the model cannot have.
    """
    former = endpoints.artefact_of(context.session, context.config, job, model_data)
    check_precision(context, former)
    return former, optimization.prepare(context, former, max_cost=max_cost, upload=upload)


def check_precision(context: JobContext, former: str) -> None:
    """Refuse what the job would refuse after it started, or would run out of memory with.

    Raises:
        UserInputError: an adapter alone, what only language models have for another model, or no
            instance type for a language model on SageMaker.
    """
    wanted, (speaks, kind) = context.config.optimization, _kind_of(context.config, former)
    if speaks:
        if context.target == "sagemaker" and "instance_type" not in wanted.model_fields_set:
            raise UserInputError(
                "is not named, and the default is a CPU with 8 GiB, which is for encoders",
                field="optimization.instance_type",
                value=wanted.instance_type,
                fix="name one whose GPU holds the model, such as ml.g5.xlarge",
            )
        return
    asked = {
        "precision": wanted.precision if wanted.precision in _OF_SPEAKERS else None,
        "speculation": wanted.speculation.method if wanted.speculation else None,
    }
    for name, value in asked.items():
        if value is not None:
            raise UserInputError(
                f"is for language models, and the model is none ({kind})",
                field=f"optimization.{name}",
                value=value,
                fix="use int8 (encoders) or bfloat16" if name == "precision" else "leave it out",
            )


def _kind_of(config: JobConfig, former: str) -> tuple[bool, str]:
    """Whether it is a language model, and what it is, in words.

    An artefact on this machine says what it is; of one on S3 the method that trained it does.

    Raises UserInputError for an adapter alone.
    """
    fix = "train with export: merged, or both, and optimize that artefact"
    method = config.training.method
    if former.startswith("s3://"):
        if config.training.hyperparameters.get("export") == "adapter":
            told = "is an adapter without its base model"
            raise UserInputError(told, field="the model", value=former, fix=fix)
        task = TASKS.get(method)
        return task is not None and task.evaluation == "text-generation", method
    artefact = evaluation.read_artefact(former)
    if artefact is None:
        told = "has no config.json: it is an adapter without its base model, or no model"
        raise UserInputError(told, field="the model", value=former, fix=fix)
    names = [str(name) for name in artefact.config.get("architectures") or ()]
    return any(name.endswith(_SPEAKING) for name in names), " and ".join(names)


def finish(context: JobContext, name: str, former: str) -> Optimized:
    """What a job that has completed made, compared with what it was made from.

    The two are served one after the other, in processes on this machine; for SageMaker and Docker
    that is left to `sm-launch compare`, which compares endpoints.

    Args:
        context: the job whose model was optimized.
        name: of the training job.
        former: URI of the artefact that it was given.

    Raises:
        LaunchError: its artefact cannot be read, or a server does not come up.
    """
    described = context.session.describe_training_job(TrainingJobName=name)
    model = artefact_uri(described)
    artefact = evaluation.read_artefact(model, context.clients)
    measured = artefact.results.get(KEY) if artefact else None
    if not isinstance(measured, Mapping):
        raise LaunchError(
            "says nothing of its optimization",
            field="eval_results.json",
            value=model,
            fix=f"look at the job's log: sm-launch logs {name}",
        )
    made = Optimized(name, model, former, measured)
    if context.target != "process":
        return made
    return _compared(context, made)


def _compared(context: JobContext, made: Optimized) -> Optimized:
    folder = context.config.work_path / KEY
    (rows,) = optimization.held_out(context.config).values()
    for side, uri in (("before", made.former), ("after", made.model)):
        request = Request(model_data=uri, data=rows, output=folder / side)
        evaluation_run.run(context, request)
    comparison, page = comparing.run(
        (str(folder / "before"), str(folder / "after")), lambda: context, output=folder
    )
    return replace(made, comparison=comparison, report=page)


def render(made: Optimized) -> Group:
    """For a terminal: one table of everything that was measured."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    before, after = made.measured["before"], made.measured["after"]
    table = Table(box=None, padding=(0, 1))
    table.add_column("")
    for title in ("before", "after", "change", "95 % interval", "p (Holm)"):
        table.add_column(title, justify="right", no_wrap=True)
    for name, (label, unit, digits) in _COSTS.items():
        if name not in before:
            continue
        first, second = before[name] / unit, after[name] / unit
        change = f"x {second / first:.2f}" if first else ""
        table.add_row(label, f"{first:.{digits}f}", f"{second:.{digits}f}", change, "", "")
    for row in _qualities(made):
        table.add_row(*row)
    return Group(table, *(Text(line) for line in _account(made)))


def _qualities(made: Optimized) -> list[tuple[str, ...]]:
    """Each metric of both models: through the server where they were compared, else the job's."""
    compared = made.comparison.metrics if made.comparison else ()
    served = [
        (
            m.metric,
            decimal(m.first),
            decimal(m.second),
            decimal(m.difference, sign=True),
            f"{m.interval.low:+.4f} to {m.interval.high:+.4f}",
            p_value(m.p_adjusted),
        )
        for m in compared
    ]
    before, after = made.measured["before"], made.measured["after"]
    known = {*_COSTS, *(row[0] for row in served)}
    return served + [
        (name, f"{before[name]:.4f}", f"{after[name]:.4f}", f"{after[name] - before[name]:+.4f}")
        for name in before
        if name not in known
    ]


def _account(made: Optimized) -> list[str]:
    told = made.measured
    lines = [
        f"{told['metric']} decided on {told['rows']} rows of {told['split']}: "
        f"{told['before'][told['metric']]:.4f} before, {told['after'][told['metric']]:.4f} after, "
        f"{told['max_drop']:g} less allowed",
        f"measured in the job on {told['processor']}, {told['threads']} threads"
        if "latency_p50_ms" in told["before"]
        else "its speed is that of vLLM on a GPU: sm-launch evaluate --load measures an endpoint's",
    ]
    if made.comparison is not None:
        test = made.comparison.mcnemar
        lines.append(
            f"right before alone: {test.only_first}, right after alone: {test.only_second}; "
            f"McNemar p {equals(test.p_value)}"
        )
    return lines


def wait(context: JobContext, name: str, former: str) -> Optimized:
    """Follow the job to its end; then as `finish`.

    Raises:
        LaunchError: it failed; the message holds the metric before and after where that is why.
    """
    live.wait(context.session, name)
    return finish(context, name, former)
