"""`training` in job.yaml: what to train, how, on which machines."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from sm_launch.job import limits, user_script
from sm_launch.job.fallback import Fallback
from sm_launch.job.section import Section

HyperparameterValue = str | int | float | bool | list[Any] | dict[str, Any] | None


class Instances(Section):
    """Which machines to use on SageMaker. Local targets accept and ignore the type."""

    type: str = "ml.g5.xlarge"
    """SageMaker instance type; `local` and `local_gpu` choose the Docker target's device."""
    count: Annotated[int, Field(ge=1, le=100)] = 1
    """How many instances."""
    volume_size_gb: Annotated[int, Field(ge=1, le=16384)] = 50
    """Size of the training volume, in GiB."""
    keep_alive_seconds: Annotated[int, Field(ge=0, le=limits.KEEP_ALIVE_SECONDS[1])] = 0
    """Keep the instances warm for the next job, in seconds (0: no warm pool)."""


class Network(Section):
    """Where the containers run and what they may reach."""

    subnets: list[Annotated[str, Field(pattern=limits.SUBNET_ID)]] = []
    """VPC subnets; empty: SageMaker's own network."""
    security_groups: list[Annotated[str, Field(pattern=limits.SECURITY_GROUP_ID)]] = []
    """VPC security groups; needed with subnets."""
    isolation: bool = False
    """No outbound network at all: the base model must then come from a channel."""
    encrypt_between_instances: bool = False
    """Encrypt traffic between training instances."""

    @model_validator(mode="after")
    def _both_or_none(self) -> Network:
        if bool(self.subnets) != bool(self.security_groups):
            raise ValueError("subnets and security_groups go together: give both or neither")
        return self


class Training(Section):
    """What to train and how."""

    method: str = "text-classification"
    """text-classification, sft, …: the methods of containers/train."""
    model: str | None = None
    """Base model: a Hugging Face Hub id, a directory, a model.tar.gz, an s3:// URI,
    package:NAME/PATH for one of an installed Python package, or the name of a training job to go on
    with (job:NAME where another tool named it)."""
    hyperparameters: dict[str, HyperparameterValue] = {}
    """Any field of the method's TRL/transformers configuration, by its own name."""
    script: str | None = None
    """A training script of your own in place of a method: a file, or one in source_dir. It gets the
    hyperparameters as arguments, and SageMaker's variables (SM_CHANNEL_TRAIN, SM_MODEL_DIR)."""
    source_dir: str | None = None
    """Directory with the script and what it imports; its requirements.txt is installed first."""
    channels: dict[str, str] = {}
    """Channel name to file, directory or s3:// URI; default: what `data prepare` wrote.
    `train-NAME` is one of several data sets, likewise `validation-NAME` and `test-NAME`."""
    input_mode: Literal["File", "FastFile"] = "File"
    """How SageMaker brings the channels in."""
    image: str | None = None
    """URI of the training image; needed for the target sagemaker. Default with docker: what `make
    build` built on this machine."""
    instances: Instances = Instances()
    max_runtime_seconds: Annotated[int, Field(ge=1, le=limits.HARD_MAX_RUNTIME_SECONDS)] = (
        limits.DEFAULT_MAX_RUNTIME_SECONDS
    )
    """Stop the job after this many seconds."""
    spot: bool = False
    """Use managed spot training: checkpoints are kept and interrupted jobs resume."""
    max_wait_seconds: int | None = None
    """With spot: training time plus waiting time, in seconds (default: twice the runtime)."""
    retries: Annotated[int, Field(ge=0, le=30)] = 0
    """How often SageMaker retries after an internal error."""
    fallback: list[Fallback] = []
    """Other instance types and regions, in their order, for when AWS has no capacity."""
    restarts: Annotated[int, Field(ge=0, le=10)] = 0
    """How often the launcher, while it waits, starts a job anew that was interrupted or failed for
    a cause that may pass; from its checkpoints where it kept some."""
    checkpoints: str | None = None
    """Directory or s3:// URI that keeps checkpoints, in a folder for each job, so that
    `sm-launch train --resume JOB` goes on from that job's last one."""
    compress_model: bool = True
    """Write model.tar.gz; false keeps the files as they are, which starts endpoints faster."""
    environment: dict[str, str] = {}
    """Environment variables of the training container. env:NAME takes the launcher's own variable,
    secret:ID or secret:ID#KEY one of AWS Secrets Manager; neither is written down anywhere."""
    network: Network = Network()
    max_cost_usd: Annotated[float, Field(gt=0)] | None = None
    """Refuse to start on SageMaker when the job could cost more, at its maximum runtime."""

    @model_validator(mode="after")
    def _script_is_named_once(self) -> Training:
        if self.source_dir is not None and self.script is None:
            raise ValueError("source_dir needs script: which file of it is to be run")
        if self.script is None:
            return self
        if own := user_script.clash(self.script, self.hyperparameters, self.channels):
            raise ValueError(own)
        names = user_script.hyperparameters(self.script, self.source_dir)
        self.hyperparameters = {**self.hyperparameters, **names}
        return self

    @model_validator(mode="after")
    def _wait_covers_runtime(self) -> Training:
        if self.max_wait_seconds is not None:
            if not self.spot:
                raise ValueError("max_wait_seconds needs spot: true")
            if self.max_wait_seconds < self.max_runtime_seconds:
                raise ValueError(
                    f"max_wait_seconds ({self.max_wait_seconds}) must be at least "
                    f"max_runtime_seconds ({self.max_runtime_seconds})"
                )
        # Developer guide, "SageMaker AI managed warm pools", Considerations.
        if self.spot and self.instances.keep_alive_seconds:
            raise ValueError(
                "instances.keep_alive_seconds: SageMaker has no warm pools of spot instances; "
                "leave out one of the two"
            )
        return self

    @field_validator("channels")
    @classmethod
    def _channel_names(cls, channels: dict[str, str]) -> dict[str, str]:
        for name in channels:
            if not limits.CHANNEL_NAME_PATTERN.fullmatch(name):
                raise ValueError(f"channel name {name!r} must match [A-Za-z0-9._-]{{1,64}}")
            if name in limits.RESERVED_CHANNELS - {"code"}:
                raise ValueError(f"channel name {name!r} is reserved by the SageMaker SDK")
        return channels
