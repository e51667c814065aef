"""How functions come by their job."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from sm_launch.errors import UserInputError
from sm_launch.job.config import JobConfig, Target, load_config
from sm_launch.target.context import JobContext, find_config, open_context

Job = JobConfig | str | os.PathLike[str]
DEFAULT_JOB = "job.yaml"


def load(job: Job = DEFAULT_JOB, overrides: Sequence[str] = ()) -> JobConfig:
    """Read and check a job.yaml.

    Args:
        job: its path; a `JobConfig` comes back as it is.
        overrides: `key=value`, as --set takes them.

    Raises:
        UserInputError: naming the key, its value and the fix.
    """
    if isinstance(job, JobConfig):
        if overrides:
            raise UserInputError(
                "overrides need the path of a job.yaml", field="overrides", value=list(overrides)
            )
        return job
    return load_config(Path(job), tuple(overrides))


def config_of(job: Job, overrides: Sequence[str], region: str | None) -> JobConfig:
    """The job, in another region where one is given."""
    config = load(job, overrides)
    if region is None:
        return config
    aws = config.aws.model_copy(update={"region": region})
    return config.model_copy(update={"aws": aws})


def open_job(
    job: Job, overrides: Sequence[str], target: Target | None, region: str | None
) -> JobContext:
    return open_context(load(job, overrides), target, region)


def find_place(
    job: Job | None, target: Target | None, region: str | None, overrides: Sequence[str] = ()
) -> JobContext:
    """Where a thing is that is called by its name: what the job says, if there is one."""
    if isinstance(job, JobConfig):
        return open_context(load(job, overrides), target, region)
    return open_context(find_config(Path(job or DEFAULT_JOB), tuple(overrides)), target, region)


def open_meant(
    named: object, job: Job | None, target: Target | None, region: str | None
) -> JobContext:
    """The same, where a name may be left out: then there must be a job that has one."""
    return (
        find_place(job, target, region)
        if named
        else open_job(job or DEFAULT_JOB, (), target, region)
    )
