"""The `endpoint` parts of job.yaml that SageMaker alone can do."""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

from pydantic import Field, field_validator, model_validator

from sm_launch.job import limits
from sm_launch.job.section import Section

Seconds = Annotated[int, Field(ge=0, le=3600)]


class Serverless(Section):
    """No instances: SageMaker starts containers on demand. CPU only, 4 MB a request."""

    memory_mb: Literal[1024, 2048, 3072, 4096, 5120, 6144] = 4096
    """Memory of a container, in MiB; the CPU share grows with it."""
    max_concurrency: Annotated[int, Field(ge=1, le=200)] = 10
    """Requests at a time, each in a container of its own."""
    provisioned_concurrency: Annotated[int, Field(ge=1, le=200)] | None = None
    """So many containers are kept warm."""

    @model_validator(mode="after")
    def _provisioned_fits(self) -> Serverless:
        if (self.provisioned_concurrency or 0) > self.max_concurrency:
            raise ValueError("provisioned_concurrency must not exceed max_concurrency")
        return self


class Asynchronous(Section):
    """Requests and answers as S3 objects: up to 1 GB and an hour each, and scaling to zero."""

    output: str | None = None
    """s3:// URI for the answers; default: below the job's prefix."""
    max_concurrent_per_instance: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Requests that a container gets at a time; default: SageMaker chooses."""
    success_topic: str | None = None
    """ARN of an SNS topic that is told of answers."""
    error_topic: str | None = None
    """ARN of an SNS topic that is told of failures."""


class Schedule(Section):
    """Other limits at certain times."""

    at: str
    """cron(0 8 ? * MON-FRI *), rate(…) or at(…), as Application Auto Scaling has them."""
    min: Annotated[int, Field(ge=0)]
    """From then on at least so many instances."""
    max: Annotated[int, Field(ge=0)]
    """From then on at most so many instances."""
    timezone: str = "UTC"
    """IANA time zone of `at`."""

    @model_validator(mode="after")
    def _form(self) -> Schedule:
        if not self.at.startswith(("cron(", "rate(", "at(")) or not self.at.endswith(")"):
            raise ValueError("at: must be cron(…), rate(…) or at(…)")
        return _ordered(self)


class Autoscaling(Section):
    """How many instances, depending on the load."""

    min: Annotated[int, Field(ge=0)] = 1
    """At least so many; 0 only for asynchronous endpoints."""
    max: Annotated[int, Field(ge=1)] = 2
    """At most so many."""
    target: Annotated[float, Field(gt=0)] | None = None
    """What to hold: invocations a minute and instance (default 70), waiting requests an instance
    (asynchronous, default 5), share of provisioned concurrency in use (serverless, default 0.7)."""
    scale_in_cooldown_seconds: Seconds = 300
    """Pause after removing instances."""
    scale_out_cooldown_seconds: Seconds = 60
    """Pause after adding instances."""
    schedule: list[Schedule] = []
    """Other limits at certain times."""

    @model_validator(mode="after")
    def _range(self) -> Autoscaling:
        return _ordered(self)


class DataCapture(Section):
    """Keep requests and answers on S3, to look for drift later."""

    percentage: Annotated[int, Field(ge=1, le=100)] = 100
    """Share of the requests that is kept."""
    location: str | None = None
    """s3:// URI; default: below the job's prefix."""


class Update(Section):
    """How a new model takes over from the old one."""

    strategy: Literal["all-at-once", "canary", "linear", "rolling"] = "all-at-once"
    """Blue/green (the first three) or rolling, which needs fewer spare instances."""
    step_percent: Annotated[int, Field(ge=1, le=50)] = 10
    """Size of the canary, of a linear step or of a rolling batch, in per cent of the capacity."""
    wait_seconds: Seconds = 300
    """Time in which alarms are watched after each step."""
    terminate_after_seconds: Seconds = 300
    """Blue/green: the old instances are kept so long."""
    alarms: Annotated[list[str], Field(max_length=10)] = []
    """CloudWatch alarms; when one fires the old model is brought back."""

    @model_validator(mode="after")
    def _batch(self) -> Update:
        low, high = limits.STEP_PERCENT.get(self.strategy, (1, 50))
        if not low <= self.step_percent <= high:
            raise ValueError(
                f"step_percent: a {self.strategy} step is between {low} and {high} per cent"
            )
        return self


class Components(Section):
    """The model as an inference component: several adapters on it, copies down to zero."""

    accelerators: Annotated[float, Field(ge=1)] | None = None
    """GPUs of a copy; default: 1 on GPU instances."""
    cpu_cores: Annotated[float, Field(ge=0.25)] | None = None
    """CPU cores of a copy."""
    memory_mb: Annotated[int, Field(ge=128)] = 4096
    """Main memory that a copy needs."""
    copies: Annotated[int, Field(ge=1)] = 1
    """How many copies to begin with; endpoint.autoscaling then counts copies."""
    adapters: dict[
        Annotated[str, Field(pattern=r"^[a-zA-Z0-9](-*[a-zA-Z0-9]){0,30}$")],
        Annotated[str, Field(pattern=r"^s3://[^/]+/.+$")],
    ] = {}
    """Name to s3:// URI of a LoRA adapter (tar.gz); each is asked by --component ENDPOINT-NAME."""


class Transform(Section):
    """A model over many files at once, without an endpoint."""

    instance_type: str = "ml.m5.xlarge"
    """SageMaker instance type. GPU hosts of batch transform have NVIDIA driver 535 at most, so
    they need an image for CUDA 12."""
    instance_count: Annotated[int, Field(ge=1, le=20)] = 1
    """How many instances share the files."""
    ami_version: str | None = None
    """Host image of GPU instances (TransformAmiVersion); default: SageMaker's."""
    split: Literal["line", "none"] = "line"
    """line: every line is a record; none: every file is one."""
    batch: Literal["multi-record", "single-record"] = "multi-record"
    """How many records go into a request."""
    max_payload_mb: Annotated[int, Field(ge=1, le=100)] = 6
    """Size of a request at most."""
    max_concurrent: Annotated[int, Field(ge=1, le=100)] | None = None
    """Requests at a time and instance; default: what the container proposes."""
    timeout_seconds: Annotated[int, Field(ge=1, le=3600)] | None = None
    """How long one request may take."""
    max_retries: Annotated[int, Field(ge=0, le=3)] | None = None
    """How often a failed request is sent again."""
    accept: str = "application/jsonlines"
    """Content type of the answers."""
    join_input: bool = False
    """Write every record with its answer (SageMaker only)."""

    @model_validator(mode="after")
    def _buffer(self) -> Transform:
        size = (self.max_concurrent or 1) * self.max_payload_mb
        if size > limits.TRANSFORM_BUFFER_MB:
            raise ValueError(
                f"max_concurrent times max_payload_mb is {size}; SageMaker takes "
                f"{limits.TRANSFORM_BUFFER_MB} at most"
            )
        if self.split == "none" and self.batch == "multi-record" and self.join_input:
            raise ValueError("join_input needs split: line")
        return self


class HostFallback(Section):
    """Another instance type."""

    type: str
    """SageMaker instance type."""


class Variant(Section):
    """One more model behind the same endpoint."""

    name: str
    """Name of the variant."""
    model_data: str
    """s3:// URI of its model."""
    weight: Annotated[float, Field(ge=0)] = 1.0
    """Its share of the requests, against the other variants' weights."""
    instance_type: str | None = None
    """Default: that of endpoint.instances."""
    instance_count: Annotated[int, Field(ge=1)] = 1
    """How many instances it runs on."""

    @field_validator("name")
    @classmethod
    def _name(cls, name: str) -> str:
        return limits.require_name(name)


Limits = TypeVar("Limits", Autoscaling, Schedule)


def _ordered(section: Limits) -> Limits:
    if section.min > section.max:
        raise ValueError(f"min ({section.min}) must not exceed max ({section.max})")
    return section
