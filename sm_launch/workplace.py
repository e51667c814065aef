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
    """What a command works with: the job, where it runs, and how files get there.

    Images and roles are asked for when a request needs them: who measures an endpoint that is there
    needs neither.
    """

    config: JobConfig
    target: Target

    @property
    def training_image(self) -> str:
        """Raises UserInputError where the target needs one and job.yaml names none."""
        return _image(self.config, self.target, "training")

    @property
    def serving_image(self) -> str:
        """Likewise."""
        return _image(self.config, self.target, "endpoint")

    @property
    def training_role(self) -> str:
        """Likewise."""
        return _role(self.target, self.config.aws.training_role)

    @property
    def hosting_role(self) -> str:
        """Likewise; default: the training role."""
        return _role(self.target, self.config.aws.hosting_role or self.config.aws.training_role)

    def session(self) -> Session:
        return open_session(self.target, region=self.config.aws.region)

    def stage(self, *, upload: bool = True) -> Stage:
        """Where files go; without `upload` on SageMaker nothing is sent."""
        if self.target != "sagemaker":
            return LocalStage(self.config.work_path)
        from sm_launch.buckets import s3_stage

        return s3_stage(self.config, upload=upload)


def open_workplace(config: JobConfig, target: Target | None = None) -> Workplace:
    """The job at the target that is asked for, named in job.yaml, or possible on this machine."""
    return Workplace(config, resolve_target(config, target))


def _image(config: JobConfig, target: Target, section: str) -> str:
    named = config.training.image if section == "training" else config.endpoint.image
    if named:
        return named
    if target == "process":
        local = (requests.LOCAL_TRAINING_IMAGE, requests.LOCAL_SERVING_IMAGE)
        return local[0] if section == "training" else local[1]
    if target == "docker":
        from sm_launch.images.choosing import built_image

        built = built_image("train" if section == "training" else "serve")
        if built:
            return built
    raise UserInputError(
        f"is needed for the target {target}, and none was built here"
        if target == "docker"
        else f"is needed for the target {target}",
        field=f"{section}.image",
        fix="run `make build`"
        if target == "docker"
        else "run `make build push` and put the image URI it prints into job.yaml",
    )


def _role(target: Target, role: str | None) -> str:
    if role:
        return role
    if target == "sagemaker":
        raise UserInputError(
            "is needed for the target sagemaker",
            field="aws.training_role",
            fix="put the ARN of a SageMaker execution role into job.yaml",
        )
    return requests.LOCAL_ROLE
