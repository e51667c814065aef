"""Where a job is worked on: its job.yaml, the target, and what that target needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sm_launch import ownership, requests
from sm_launch.config import JobConfig, Target, load_config, resolve_target, with_overrides
from sm_launch.errors import UserInputError
from sm_launch.sessions import open_session
from sm_launch.sessions.protocol import Session
from sm_launch.staging import LocalStage, Stage

DEFAULT_JOB = Path("job.yaml")
# The name of the job where there is no job.yaml; nothing that is made bears it.
NO_JOB = "no-job"


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

    @property
    def any_job(self) -> bool:
        """Whether nothing says which job is meant: there is no job.yaml."""
        return self.config.name == NO_JOB and not self.config.directory.is_absolute()

    @property
    def where(self) -> str:
        """The place that is looked at, in words: `process`, or `sagemaker in eu-west-1`."""
        if self.target != "sagemaker":
            return self.target
        import boto3

        region = self.config.aws.region or boto3.session.Session().region_name
        return f"{self.target} in {region or 'no region'}"

    @property
    def options(self) -> list[str]:
        """The options by which another command, on this or a later day, looks at the same place."""
        region = self.config.aws.region if self.target == "sagemaker" else None
        return ["--target", self.target, *(["--region", region] if region else [])]

    @property
    def clients(self) -> Callable[[str], Any]:
        """Makes clients of AWS services, in the job's region."""
        from sm_launch.aws_clients import clients_for

        return clients_for(self.config.aws)

    def session(self) -> Session:
        return open_session(self.target, region=self.config.aws.region)

    def stage(self, *, upload: bool = True) -> Stage:
        """Where files go; without `upload` on SageMaker nothing is sent."""
        if self.target != "sagemaker":
            return LocalStage(self.config.work_path)
        from sm_launch.buckets import s3_stage

        return s3_stage(self.config, upload=upload)


def open_workplace(
    config: JobConfig, target: Target | None = None, region: str | None = None
) -> Workplace:
    """The job at the target that is asked for, named in job.yaml, or possible on this machine.

    Args:
        config: the job.
        target: takes precedence over job.yaml's.
        region: likewise.
    """
    settled = resolve_target(config, target)
    tags = {**config.aws.tags, **ownership.directory_tag(config, settled)}
    aws = config.aws.model_copy(update={"region": region or config.aws.region, "tags": tags})
    return Workplace(config.model_copy(update={"aws": aws}), settled)


def find_workplace(
    path: Path,
    overrides: tuple[str, ...] = (),
    target: Target | None = None,
    region: str | None = None,
) -> Workplace:
    """The place for a command that is given a name: job.yaml says where, if there is one.

    Raises:
        UserInputError: job.yaml is wrong, or another file was named and does not exist.
    """
    if path == DEFAULT_JOB and not path.exists():
        config = with_overrides(JobConfig(name=NO_JOB), overrides)
        return open_workplace(config, target, region)
    return open_workplace(load_config(path, overrides), target, region)


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
