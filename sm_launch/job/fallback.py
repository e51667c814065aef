"""Where else a training may run when AWS has no instance of the wanted type free."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import model_validator

from sm_launch.job.section import Section

if TYPE_CHECKING:
    from sm_launch.job.config import JobConfig


class Fallback(Section):
    """Another instance type, another region, or both."""

    type: str | None = None
    """SageMaker instance type; default: training.instances.type."""
    region: str | None = None
    """AWS region; image and bucket must be named, for a job takes neither from another region."""
    image: str | None = None
    """URI of the training image in that region; default: training.image."""
    bucket: str | None = None
    """S3 bucket in that region; default: aws.bucket."""

    @model_validator(mode="after")
    def _complete(self) -> Fallback:
        if not (self.type or self.region):
            raise ValueError("names neither a type nor a region")
        missing = [name for name in ("image", "bucket") if not getattr(self, name)]
        if self.region and missing:
            raise ValueError(
                f"region {self.region} needs {' and '.join(missing)} of its own: SageMaker takes "
                "images and data of the job's region only"
            )
        return self


def alternatives(config: JobConfig) -> list[JobConfig]:
    """The job as each fallback has it, in their order."""
    return [_elsewhere(config, each) for each in config.training.fallback]


def _elsewhere(config: JobConfig, other: Fallback) -> JobConfig:
    training, aws = config.training, config.aws
    instances = training.instances
    if other.type:
        instances = instances.model_copy(update={"type": other.type})
    changed = {"instances": instances, "image": other.image or training.image}
    if other.region:
        # Checkpoints of the first region stay there; the stage gives this one a place.
        changed["checkpoints"] = None
        update = {"region": other.region, "bucket": other.bucket}
        aws = aws.model_copy(update=update)
    return config.model_copy(update={"training": training.model_copy(update=changed), "aws": aws})
