"""Whose a resource is. A name alone says nothing: two projects may choose the same.

What sm-launch makes bears the job's name as a tag, and on local targets, where all jobs of a
machine share one home, the directory of its job.yaml too. What bears other tags is foreign: it is
neither taken for one's own nor changed, unless the user takes it over (`--adopt`).
"""

from __future__ import annotations

import hashlib
from typing import Any

from sm_launch.aws.paging import every
from sm_launch.errors import LaunchError
from sm_launch.job import limits
from sm_launch.job.config import JobConfig, Target


def directory_tag(config: JobConfig, target: Target) -> dict[str, str]:
    """The tag that says from which directory a local resource was made."""
    if target == "sagemaker" or not config.directory.is_absolute():
        return {}
    return {limits.DIRECTORY_TAG_KEY: _tag_value(str(config.directory))}


def _tag_value(text: str) -> str:
    """The text where a tag can hold it, else its digest."""
    fits = len(text) <= limits.TAG_VALUE_LENGTH
    if fits and limits.TAG_VALUE_PATTERN.fullmatch(text):
        return text
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def tags_of(session: Any, arn: str) -> dict[str, str]:
    """Key to value of a resource's tags."""
    return {tag["Key"]: tag["Value"] for tag in every(session.list_tags, "Tags", ResourceArn=arn)}


def stranger(tags: dict[str, str], config: JobConfig, *, any_job: bool = False) -> str | None:
    """Whose a resource is, in words; None where it is this job's own.

    Args:
        tags: of the resource.
        config: the job, with the tags that its own resources bear.
        any_job: nothing says which job is meant, so that all that sm-launch made may be.
    """
    owner = tags.get(limits.TAG_KEY)
    if owner is None:
        return f"sm-launch did not make it (no tag {limits.TAG_KEY})"
    if any_job:
        return None
    if owner != config.name:
        return f"it belongs to the job {owner!r}"
    here = config.aws.tags.get(limits.DIRECTORY_TAG_KEY)
    made_in = tags.get(limits.DIRECTORY_TAG_KEY)
    if here is not None and made_in != here:
        return f"it belongs to the job of {made_in or 'an unknown directory'}"
    return None


def require_own(
    session: Any,
    kind: str,
    name: str,
    arn: str,
    config: JobConfig,
    *,
    any_job: bool = False,
    consent: str = "take it over with --adopt",
) -> None:
    """Refuse to touch what is somebody else's; `consent`: how a user says that it is meant.

    Raises:
        LaunchError: naming the owner.
    """
    if reason := stranger(tags_of(session, arn), config, any_job=any_job):
        raise LaunchError(
            f"the {kind} is not this job's: {reason}",
            field="name",
            value=name,
            fix=f"choose another name, work in the directory of its own job.yaml, or {consent}",
        )


def adopt(session: Any, arn: str, config: JobConfig) -> None:
    """Make a resource this job's own: it gets the tags of one."""
    tags = {**config.aws.tags, limits.TAG_KEY: config.name}
    session.add_tags(
        ResourceArn=arn, Tags=[{"Key": key, "Value": value} for key, value in tags.items()]
    )
