"""The `optimization` section of job.yaml: what a trained model is made into, and at what price."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from sm_launch.job import limits
from sm_launch.job.section import Section


class Speculation(Section):
    """Tokens that vLLM guesses ahead and the model then checks: same answers, several at a time."""

    method: Literal["ngram", "draft"] = "ngram"
    """ngram: what followed when the last tokens came before; draft: by a smaller model."""
    tokens: Annotated[int, Field(ge=1, le=32)] = 5
    """How many at a time."""
    lookup: Annotated[int, Field(ge=1, le=64)] = 4
    """With ngram: how many tokens are looked for, at most."""
    draft: str | None = None
    """With draft: the smaller model's path or s3:// URI; it has the same tokenizer."""

    @model_validator(mode="after")
    def _draft_is_named(self) -> Speculation:
        if (self.method == "draft") != (self.draft is not None):
            raise ValueError("draft: name the smaller model where method is draft, and only there")
        if self.method == "draft" and "lookup" in self.model_fields_set:
            raise ValueError("lookup: it is ngram's, and method is draft")
        return self


class Optimization(Section):
    """How `sm-launch optimize` makes another artefact from a trained one."""

    precision: Literal["int8", "bfloat16", "fp8", "int4"] = "int8"
    """Type of the weights: int8 (encoders for CPUs, language models for GPUs), bfloat16, or for
    language models fp8 or int4."""
    max_drop: Annotated[float, Field(ge=0, le=1)] = 0.005
    """By how much the metric may fall on held-out rows: the job fails else, and exports nothing."""
    speculation: Speculation | None = None
    """Language models: how the serving image's vLLM guesses tokens ahead."""
    metric: str | None = None
    """What max_drop holds; default: accuracy, f1, pearson or another, by the model's task."""
    instance_type: str = "ml.c6i.xlarge"
    """Where the job runs on SageMaker: a type like that of the endpoint shows its figures."""
    volume_size_gb: Annotated[int, Field(ge=1, le=16384)] = 50
    """Size of its volume, in GiB."""
    max_runtime_seconds: Annotated[int, Field(ge=1, le=limits.HARD_MAX_RUNTIME_SECONDS)] = 3600
    """Stop the job after this many seconds."""
