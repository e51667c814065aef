"""Data: what `sm-launch data` does."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from sm_launch.api.opening import DEFAULT_JOB, Job, config_of, load, open_job
from sm_launch.job.config import Target

if TYPE_CHECKING:
    from sm_launch.data.inspection import FileReport
    from sm_launch.data.report import PreparationReport


def prepare(
    job: Job = DEFAULT_JOB, *, region: str | None = None, overrides: Sequence[str] = ()
) -> PreparationReport:
    """Clean and split the raw data into channels: `sm-launch data prepare`."""
    from sm_launch.jobs import data_preparation

    return data_preparation.prepare(config_of(job, overrides, region))


def prepare_on_sagemaker(
    job: Job = DEFAULT_JOB, *, region: str | None = None, overrides: Sequence[str] = ()
) -> dict[str, str]:
    """The same in a Processing job; channel name to URI: `sm-launch data prepare --processing-job`.

    Raises:
        LaunchError: the job failed.
    """
    from sm_launch.jobs import data_preparation

    context = open_job(job, overrides, "sagemaker", region)
    return data_preparation.run_processing(context, data_preparation.prepare_processing(context))


def validate(
    job: Job = DEFAULT_JOB, *, region: str | None = None, overrides: Sequence[str] = ()
) -> PreparationReport:
    """What `prepare` would do, without writing: `sm-launch data validate`."""
    from sm_launch.jobs import data_preparation

    return data_preparation.validate(config_of(job, overrides, region))


def inspect(
    job: Job = DEFAULT_JOB, *, region: str | None = None, overrides: Sequence[str] = ()
) -> list[FileReport]:
    """What the raw files hold: `sm-launch data inspect`."""
    from sm_launch.jobs import data_preparation

    return data_preparation.inspect(config_of(job, overrides, region))


def preview(
    job: Job = DEFAULT_JOB,
    *,
    target: Target | None = None,
    region: str | None = None,
    overrides: Sequence[str] = (),
    rows: int = 3,
) -> list[str]:
    """Rows of each channel as the model sees them, as lines: `sm-launch data preview`."""
    from sm_launch.jobs.preview import preview as run

    where = partial(open_job, job, overrides, target, region)
    return run(load(job, overrides), rows, where)


def upload(
    job: Job = DEFAULT_JOB,
    *,
    region: str | None = None,
    overrides: Sequence[str] = (),
    dry_run: bool = False,
) -> dict[str, str]:
    """Send the prepared channels to S3; channel name to URI: `sm-launch data upload`."""
    from sm_launch.jobs import data_preparation

    return data_preparation.upload(open_job(job, overrides, "sagemaker", region), send=not dry_run)
