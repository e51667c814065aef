"""What there is at a place, and what it lacks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sm_launch.api.opening import Job, find_place
from sm_launch.job.config import Target

if TYPE_CHECKING:
    from sm_launch.account.checks import Check
    from sm_launch.account.overview import Item


def list_(
    name: str = "",
    *,
    job: Job | None = None,
    target: Target | None = None,
    region: str | None = None,
) -> dict[str, list[dict[str, Any]]]:
    """What there is of all projects by kind, newest first: `sm-launch list`.

    Args:
        name: only names that contain this.
    """
    from sm_launch.account import listing

    return listing.summaries(find_place(job, target, region), name)


def status(
    name: str | None = None,
    *,
    job: Job | None = None,
    target: Target | None = None,
    region: str | None = None,
) -> list[Item]:
    """All of a project, with what its instances have cost so far: `sm-launch status`.

    Args:
        name: of the project; default: job.yaml's.
    """
    from sm_launch.account.overview import overview

    return overview(find_place(job, target, region), name)


def logs(
    name: str,
    *,
    job: Job | None = None,
    target: Target | None = None,
    region: str | None = None,
    follow: bool = False,
) -> Iterator[str]:
    """The log lines of a training job, a transform job or an endpoint: `sm-launch logs`.

    Args:
        name: of it.
        follow: go on with new lines, without an end.

    Raises:
        LaunchError: there is nothing of this name.
    """
    from sm_launch.account.logs import Log

    log = Log(find_place(job, target, region), name)
    return log.follow() if follow else iter(log.lines)


def setup(
    *,
    job: Job | None = None,
    region: str | None = None,
    bucket: str | None = None,
    prefix: str = "sm-launch",
    kms_key: str | None = None,
    vpc: str | None = None,
    read: Sequence[str] = (),
    write: Sequence[str] = (),
    topics: Sequence[str] = (),
    mlflow: Sequence[str] = (),
    fresh: bool = False,
) -> dict[str, str]:
    """Make bucket, repositories and roles on AWS, unasked: `sm-launch setup --yes`.

    Args:
        bucket: its name; default: sm-launch-<account>-<region>.
        prefix: of the keys that the roles may reach.
        kms_key: ARN of the key that encrypts bucket and volumes.
        vpc: id of the VPC in whose subnets the roles may run containers.
        read: s3:// URIs of other buckets, or folders of them, that the roles may read.
        write: likewise those that they may write to.
        topics: ARNs of SNS topics that asynchronous endpoints tell their results.
        mlflow: ARNs of SageMaker's MLflow tracking servers that training logs to.
        fresh: take away what earlier calls granted besides.

    Returns:
        Bucket, TrainingRole, HostingRole, SchedulerRole, PipelineRole, and for those who launch
        LauncherPolicy and, where more is granted, LauncherGrants.
    """
    from sm_launch.account import access
    from sm_launch.account.policies import Grants

    context = find_place(job, "sagemaker", region)
    grants = Grants(prefix, kms_key, vpc, tuple(read), tuple(write), tuple(topics), tuple(mlflow))
    return access.set_up(context, bucket=bucket, grants=grants, fresh=fresh).outputs


def doctor(
    job: Job | None = None, *, target: Target | None = None, region: str | None = None
) -> list[Check]:
    """What the machine and the AWS account have and lack, each with its fix: `sm-launch doctor`."""
    from sm_launch.account.doctor import examine_job

    context = find_place(job, target, region)
    wants_aws = (target or context.config.target) == "sagemaker"
    return list(examine_job(context, wants_aws=wants_aws))


def gc(
    *,
    job: Job | None = None,
    target: Target | None = None,
    region: str | None = None,
    job_name: str | None = None,
    older_than: timedelta | None = None,
    tags: Mapping[str, str] | None = None,
    unused: bool = False,
    delete: bool = False,
) -> list[Any]:
    """Find, and with `delete` remove, what jobs left behind: `sm-launch gc`.

    Args:
        job_name: only what belongs to the job.yaml of this name.
        older_than: only what is older.
        tags: only what bears all of these.
        unused: on SageMaker only configurations, models, alarms and dashboards without an endpoint.
        delete: else it is only found.

    Returns:
        `sm_launch.account.cleanup.Leftover`s of AWS, `Garbage` of this machine.
    """
    from sm_launch.account import cleanup

    return cleanup.collect(
        find_place(job, target, region),
        job=job_name,
        older_than=older_than,
        tags=dict(tags or {}),
        unused=unused,
        delete=delete,
    )
