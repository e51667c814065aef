"""Where a job is worked on: its job.yaml, the target, and what that target needs."""

from __future__ import annotations

from dataclasses import dataclass

from sm_launch import requests
from sm_launch.config import JobConfig, Target, resolve_target
from sm_launch.errors import UserInputError
from sm_launch.sessions import open_session
from sm_launch.sessions.protocol import Session
from sm_launch.staging import LocalStage, Stage


@dataclass(frozen=True)
class Workplace:
    """What a command works with: the job, where it runs, and how files get there."""

    config: JobConfig
    target: Target
    training_image: str
    serving_image: str
    training_role: str
    hosting_role: str

    def session(self) -> Session:
        return open_session(self.target, region=self.config.aws.region)

    def stage(self, *, upload: bool = True) -> Stage:
        """Where files go; without `upload` on SageMaker nothing is sent."""
        if self.target != "sagemaker":
            return LocalStage(self.config.work_path)
        from sm_launch.buckets import s3_stage

        return s3_stage(self.config, upload=upload)


def open_workplace(config: JobConfig, target: Target | None = None) -> Workplace:
    """Settle what the target needs.

    Raises:
        UserInputError: job.yaml lacks something that the target needs.
    """
    settled = resolve_target(config, target)
    return Workplace(
        config=config,
        target=settled,
        training_image=_image(config, settled, "training"),
        serving_image=_image(config, settled, "endpoint"),
        training_role=_role(config, settled, config.aws.training_role),
        hosting_role=_role(config, settled, config.aws.hosting_role or config.aws.training_role),
    )


def _image(config: JobConfig, target: Target, section: str) -> str:
    named = config.training.image if section == "training" else config.endpoint.image
    if named:
        return named
    if target == "process":
        local = (requests.LOCAL_TRAINING_IMAGE, requests.LOCAL_SERVING_IMAGE)
        return local[0] if section == "training" else local[1]
    raise UserInputError(
        f"is needed for the target {target}",
        field=f"{section}.image",
        fix="run `make build` (and `make push` for SageMaker) and put the image URI it prints "
        "into job.yaml",
    )


def _role(config: JobConfig, target: Target, role: str | None) -> str:
    if role:
        return role
    if target == "sagemaker":
        raise UserInputError(
            "is needed for the target sagemaker",
            field="aws.training_role",
            fix="put the ARN of a SageMaker execution role into job.yaml",
        )
    return requests.LOCAL_ROLE
