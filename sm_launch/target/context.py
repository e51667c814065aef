"""What every command and function works with: a job, the target, its session and its stage."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Protocol

from sm_launch.errors import UserInputError
from sm_launch.job import naming
from sm_launch.job.config import JobConfig, Target, load_config, no_job
from sm_launch.job.costs import billed
from sm_launch.job.instances import Prices
from sm_launch.job.passthrough import Passthrough
from sm_launch.sessions import open_session
from sm_launch.sessions.protocol import Session
from sm_launch.target import ownership
from sm_launch.target.choose import explain_default, resolve_target
from sm_launch.target.local_inputs import with_local_inputs
from sm_launch.target.reach import NOWHERE, Roles
from sm_launch.target.staging import LocalStage, Stage

DEFAULT_JOB = Path("job.yaml")
# The name of the job where there is no job.yaml; nothing that is made bears it.
NO_JOB = "no-job"


class Notify(Protocol):
    """Tells the user something that is no result."""

    def __call__(self, message: str, *, warning: bool = False) -> None:
        """Say it; a warning is about what the user may want to change."""


def notify_python(message: str, *, warning: bool = False) -> None:
    """What is told to a program: warnings as Python's, the rest in the log `sm_launch`."""
    if not warning:
        logging.getLogger("sm_launch").info(message)
        return
    depth, frame = 1, sys._getframe()
    while frame.f_back and str(frame.f_globals.get("__name__")).startswith("sm_launch."):
        depth, frame = depth + 1, frame.f_back
    warnings.warn(message, stacklevel=depth)


@dataclass(frozen=True)
class JobContext:
    """The job, where it runs, and how files get there; made once for a command.

    Images and roles are asked for when a request needs them: who measures an endpoint that is there
    needs neither.

    Attributes:
        config: the job, with the region and the tags that hold at this target.
        target: where it runs.
        notify: gets what the user is told meanwhile.
        passed_over: fields of SageMaker's requests that this target does not have.
    """

    config: JobConfig
    target: Target
    notify: Notify = notify_python
    passed_over: Passthrough = field(default_factory=Passthrough)
    _told: set[str] = field(default_factory=set, compare=False, repr=False)

    @cached_property
    def session(self) -> Session:
        """The target's session; nothing is contacted before it is used."""
        session = open_session(self.target, region=self.config.aws.region)
        return session if self.on_aws else self.reading_s3(session)

    def reading_s3(self, session: Session) -> Session:
        """A local session whose requests may name inputs on S3."""
        from sm_launch.aws.clients import raw_data_clients

        store = partial(raw_data_clients(self.config.aws), "s3")
        return with_local_inputs(session, store, self.notify)

    @property
    def on_aws(self) -> bool:
        """Whether the target is SageMaker itself."""
        return self.target == "sagemaker"

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

    @cached_property
    def prices(self) -> Prices:
        """What instances cost in the job's region."""
        from sm_launch.target.prices import current_prices

        return current_prices(self.region)

    def prices_of(self, *configs: JobConfig) -> Prices:
        """The same, with those of spot instances where these jobs take them."""
        from sm_launch.target.prices import with_spot

        charged = [billed(config) for config in configs]
        kinds = {kind for each in charged if each.spot for kind, _ in each.machines}
        return with_spot(self.prices, self.region, sorted(kinds)) if kinds else self.prices

    @property
    def any_job(self) -> bool:
        """Whether nothing says which job is meant: there is no job.yaml."""
        return self.config.name == NO_JOB and not self.config.directory.is_absolute()

    @property
    def region(self) -> str | None:
        """Of AWS; None takes what the AWS configuration says."""
        return self.config.aws.region

    @property
    def where(self) -> str:
        """The place that is looked at, in words: `process`, or `sagemaker in eu-west-1`."""
        if not self.on_aws:
            return self.target
        return f"{self.target} in {self.known_region or 'no region'}"

    @property
    def options(self) -> list[str]:
        """The options by which another command, on this or a later day, looks at the same place."""
        region = self.region if self.on_aws else None
        return ["--target", self.target, *(["--region", region] if region else [])]

    @property
    def clients(self) -> Callable[[str], Any]:
        """Makes clients of AWS services, in the job's region."""
        from sm_launch.aws.clients import clients_for

        return clients_for(self.config.aws)

    def stage(self, *, upload: bool = True) -> Stage:
        """Where files go; without `upload` on SageMaker nothing is sent."""
        if not self.on_aws:
            return LocalStage(self.config.work_path)
        from sm_launch.target.buckets import s3_stage

        return s3_stage(self.config, upload=upload)

    def warn(self, *warnings: str) -> None:
        """Tell the user what may have to be changed, each thing once."""
        for message in warnings:
            if message not in self._told:
                self._told.add(message)
                self.notify(message, warning=True)

    def tell_passed_over(self, *sections: str) -> None:
        """Name the fields of `sagemaker` in job.yaml that change nothing at this target."""
        names = [name for section in sections for name in self.passed_over.names(section)]
        if names:
            self.warn(f"{', '.join(names)}: SageMaker has that alone, not the target {self.target}")

    def check(self, *calls: tuple[str, naming.Request]) -> None:
        """Refuse on this machine what SageMaker would refuse; local targets take what they can.

        Args:
            calls: operation, such as CreateTrainingJob, and request of each.

        Raises:
            LaunchError: a value that SageMaker does not take.
        """
        if not self.on_aws:
            return
        from sm_launch.target.checking import check

        self.warn(*check(calls, self.known_region, self.config.sagemaker, self._roles))

    @cached_property
    def _roles(self) -> Roles:
        return Roles(self.clients("iam"))

    def place(self, area: str) -> str:
        """Where on S3 an area of the job will be, as far as that is known without asking AWS."""
        aws, name = self.config.aws, self.config.name
        root = f"s3://{aws.bucket}/{aws.prefix.strip('/')}/{name}" if aws.bucket else NOWHERE
        return f"{root}/{area}"

    @property
    def known_region(self) -> str | None:
        """The region that is meant; None where nothing names one."""
        import boto3

        return self.region or boto3.session.Session().region_name

    def announce_image(self, image: str) -> None:
        """Say which image is taken: in Docker it may be one that was built here and not named."""
        if self.target != "process":
            self.notify(f"image: {image}")

    def require_aws(self, what: str) -> None:
        """Refuse what only AWS has.

        Raises:
            UserInputError: the target is another one.
        """
        if not self.on_aws:
            raise UserInputError(
                f"{what}: only SageMaker endpoints have that",
                field="--target",
                value=self.target,
                fix="give --target sagemaker; `sm-launch monitor` watches local endpoints",
            )


def open_context(
    config: JobConfig,
    target: Target | None = None,
    region: str | None = None,
    notify: Notify = notify_python,
) -> JobContext:
    """The job at the target that is asked for, named in job.yaml, or possible on this machine.

    Args:
        config: the job.
        target: takes precedence over job.yaml's.
        region: likewise.
        notify: gets what the user is told meanwhile.
    """
    settled = resolve_target(config, target)
    tags = {**config.aws.tags, **ownership.directory_tag(config, settled)}
    aws = config.aws.model_copy(update={"region": region or config.aws.region, "tags": tags})
    config = config.model_copy(update={"aws": aws})
    context = JobContext(config, settled, notify)
    if settled == "sagemaker" and config.aws.s3_endpoint_url:
        raise UserInputError(
            "SageMaker reads AWS's S3 only",
            field="aws.s3_endpoint_url",
            value=config.aws.s3_endpoint_url,
            fix="take it out, or run the job on this machine: --target process",
        )
    if settled != "sagemaker":
        plain = config.model_copy(update={"sagemaker": Passthrough()})
        context = JobContext(plain, settled, notify, passed_over=config.sagemaker)
    for note in config.default_notes:
        notify(note)
    if not (target or config.target):
        notify(f"target: {context.where} ({explain_default(settled)})")
    return context


def find_config(path: Path, overrides: tuple[str, ...] = ()) -> JobConfig:
    """The job for a command that is given a name: job.yaml says where, if there is one.

    Raises:
        UserInputError: job.yaml is wrong, or another file was named and does not exist.
    """
    if path == DEFAULT_JOB and not path.exists():
        return no_job(NO_JOB, overrides)
    return load_config(path, overrides)


def _image(config: JobConfig, target: Target, section: str) -> str:
    named = config.training.image if section == "training" else config.endpoint.image
    if named:
        return named
    if target == "process":
        local = (naming.LOCAL_TRAINING_IMAGE, naming.LOCAL_SERVING_IMAGE)
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
        else "run `make build push` in the repository and put the image URI that it prints into "
        "job.yaml; or stay on this machine with --target process",
    )


def _role(target: Target, role: str | None) -> str:
    if role:
        return role
    if target == "sagemaker":
        raise UserInputError(
            "is needed for the target sagemaker",
            field="aws.training_role",
            fix="put the ARN of a SageMaker execution role into job.yaml, which `sm-launch setup` "
            "makes; or stay on this machine with --target process",
        )
    return naming.LOCAL_ROLE
