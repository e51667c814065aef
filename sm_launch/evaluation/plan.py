"""What an evaluation asks and measures, and how."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sm_launch.errors import UserInputError
from sm_launch.evaluation.client import RetryPolicy
from sm_launch.evaluation.judge import Judge
from sm_launch.evaluation.latency import LatencyPlan
from sm_launch.evaluation.load import LoadPlan
from sm_launch.evaluation.result import RunInfo
from sm_launch.evaluation.store import PredictionStore
from sm_launch.evaluation.task import Task
from sm_launch.evaluation.tasks import make_task
from sm_launch.progress import StartProgress, no_progress


def _classification() -> Task:
    return make_task("text-classification")


@dataclass(frozen=True)
class EvaluationPlan:
    """The settings of an evaluation.

    Attributes:
        task: what is asked and how it is measured.
        slices: columns whose every value gets metrics of its own.
        judge: another model that grades the answers.
        perplexity: also ask for the probability of the expected answers (text generation).
        batch_size: rows per request in the main pass.
        concurrency: requests under way at a time in the main pass.
        max_failed_share: share of rows (0 to 1) that may fail; the rest of the run is saved as soon
            as more did.
        latency: how latency is measured.
        load: also find the throughput at a limit of latency.
        retry: how requests are repeated.
        store: keeps predictions on disk and continues an interrupted evaluation.
        info: copied into the result.
        progress: shows a bar; `sm_launch.progress.progress` fits.

    Raises:
        UserInputError: batch size, concurrency or share out of range.
    """

    task: Task = field(default_factory=_classification)
    slices: Sequence[str] = ()
    judge: Judge | None = None
    perplexity: bool = False
    batch_size: int = 32
    concurrency: int = 4
    max_failed_share: float = 0.01
    latency: LatencyPlan = field(default_factory=LatencyPlan)
    load: LoadPlan | None = None
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    store: PredictionStore | None = None
    info: RunInfo = field(default_factory=RunInfo)
    progress: StartProgress = no_progress

    def __post_init__(self) -> None:
        for name, value in (("batch_size", self.batch_size), ("concurrency", self.concurrency)):
            if value < 1:
                raise UserInputError("must be at least 1", field=name, value=value, fix="give 1")
        if not 0 <= self.max_failed_share <= 1:
            raise UserInputError(
                "must be a share from 0 to 1",
                field="max_failed_share",
                value=self.max_failed_share,
                fix="write 0.01 for one percent",
            )
