"""The `optimization` section of job.yaml: what a trained model is made into, and at what price."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from sm_launch.job import limits
from sm_launch.job.section import Section


class Optimization(Section):
    """How `sm-launch optimize` makes another artefact from a trained one."""

    precision: Literal["int8", "bfloat16", "fp8", "int4"] = "int8"
    """Type of the weights: int8 (encoders for CPUs, language models for GPUs), bfloat16, or for
    language models fp8 or int4."""
    max_drop: Annotated[float, Field(ge=0, le=1)] = 0.005
    """By how much the metric may fall on held-out rows: the job fails else, and exports nothing."""
    metric: str | None = None
    """What max_drop holds; default: accuracy, f1, pearson or another, by the model's task."""
    instance_type: str = "ml.c6i.xlarge"
    """Where the job runs on SageMaker: a type like that of the endpoint shows its figures."""
    volume_size_gb: Annotated[int, Field(ge=1, le=16384)] = 50
    """Size of its volume, in GiB."""
    max_runtime_seconds: Annotated[int, Field(ge=1, le=limits.HARD_MAX_RUNTIME_SECONDS)] = 3600
    """Stop the job after this many seconds."""
