"""The `sweep` and `matrix` parts of job.yaml: many trainings from one file."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from sm_launch.job.section import Section

Scalar = bool | int | float | str


class Range(Section):
    """Values between two ends."""

    min: float
    """Lower end."""
    max: float
    """Upper end."""
    scale: Literal["auto", "linear", "log", "reverse-log"] = "auto"
    """How values spread over the range; log for learning rates."""

    @model_validator(mode="after")
    def _ends(self) -> Range:
        if self.min >= self.max:
            raise ValueError(f"min ({self.min:g}) must be less than max ({self.max:g})")
        if self.scale == "log" and self.min <= 0:
            raise ValueError(f"scale: log needs a min greater than 0, not {self.min:g}")
        if self.scale == "reverse-log" and not 0 <= self.min < self.max < 1:
            raise ValueError("scale: reverse-log needs a range within 0 <= x < 1")
        return self


class Sweep(Section):
    """Search for the best hyperparameters: a SageMaker tuning job, or the same on this machine."""

    parameters: Annotated[dict[str, Range | list[Scalar]], Field(min_length=1, max_length=30)]
    """Hyperparameter to a list of values, or to {min, max, scale}."""
    objective: str = "eval:loss"
    """Which metric of the training container decides."""
    direction: Literal["minimize", "maximize"] | None = None
    """Default: minimize a loss, maximize anything else."""
    strategy: Literal["random", "grid", "bayesian", "hyperband"] = "random"
    """grid takes lists only; bayesian and hyperband run on SageMaker only."""
    max_jobs: Annotated[int, Field(ge=1, le=750)] = 10
    """How many trainings in all; grid runs every combination."""
    max_parallel_jobs: Annotated[int, Field(ge=1, le=100)] = 2
    """How many at a time."""
    max_runtime_seconds: Annotated[int, Field(ge=120, le=15_768_000)] | None = None
    """Start no more trainings, and stop the running ones, after this many seconds."""
    target: float | None = None
    """Stop as soon as the objective is this good."""
    early_stopping: bool = False
    """Let SageMaker stop trainings that look bad (not with hyperband)."""
    seed: Annotated[int, Field(ge=0)] | None = None
    """Makes random searches repeatable."""

    @field_validator("parameters")
    @classmethod
    def _values(cls, parameters: dict[str, Range | list[Scalar]]) -> object:
        for name, values in parameters.items():
            if isinstance(values, list):
                _require_distinct(name, values, most=30)
        return parameters

    @model_validator(mode="after")
    def _possible(self) -> Sweep:
        ranges = [name for name, values in self.parameters.items() if isinstance(values, Range)]
        if self.strategy == "grid" and ranges:
            raise ValueError(f"strategy: grid takes lists of values only; {ranges[0]} is a range")
        if self.strategy == "hyperband" and self.early_stopping:
            raise ValueError("early_stopping: hyperband stops trainings by itself; leave it out")
        if self.max_parallel_jobs > self.max_jobs and self.strategy != "grid":
            raise ValueError("max_parallel_jobs must not exceed max_jobs")
        return self

    @property
    def goal(self) -> Literal["minimize", "maximize"]:
        """The direction, settled."""
        return self.direction or ("minimize" if self.objective.endswith("loss") else "maximize")

    @property
    def job_count(self) -> int:
        """How many trainings there can be."""
        if self.strategy != "grid":
            return self.max_jobs
        return math.prod(len(v) for v in self.parameters.values() if isinstance(v, list))


class Matrix(Section):
    """Several trainings at a time, one for each combination of values."""

    parameters: Annotated[dict[str, list[Scalar]], Field(min_length=1)]
    """Dotted key of job.yaml, such as training.model, to its values."""
    max_parallel_jobs: Annotated[int, Field(ge=1, le=100)] = 4
    """How many at a time."""

    @field_validator("parameters")
    @classmethod
    def _keys(cls, parameters: dict[str, list[Scalar]]) -> dict[str, list[Scalar]]:
        for name, values in parameters.items():
            if not name.startswith("training."):
                raise ValueError(f"{name}: only keys below training can vary")
            _require_distinct(name, values, most=100)
        count = math.prod(len(values) for values in parameters.values())
        if count > 100:
            raise ValueError(f"{count} combinations are more than 100")
        return parameters


def _require_distinct(name: str, values: list[Scalar], *, most: int) -> None:
    if not values:
        raise ValueError(f"{name}: names no value")
    if len(values) > most:
        raise ValueError(f"{name}: {len(values)} values; {most} at most")
    if len({str(value) for value in values}) < len(values):
        raise ValueError(f"{name}: names a value twice")
