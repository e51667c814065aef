"""What all requests of a job share: names, tags, and what stands for images and roles locally."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from sm_launch.job import limits
from sm_launch.job.config import JobConfig
from sm_launch.job.training import Network

Request = dict[str, Any]
_STAMP_LENGTH = len("-YYYYMMDD-HHMMSS-mmm")
# What `unique_name` makes of a base that was too long; a sweep's trials have more behind it.
_CUT = re.compile(r"(?P<base>.+?)(-(optimize|evaluate|reproduced))?-\d{8}-\d{6}-\d{3}")
# What local targets name where SageMaker wants an image or a role: neither is ever contacted.
LOCAL_TRAINING_IMAGE = "sm-train:process"
LOCAL_SERVING_IMAGE = "sm-serve:process"
LOCAL_ROLE = "arn:aws:iam::000000000000:role/sm-launch-local"


def unique_name(
    base: str,
    now: datetime | None = None,
    *,
    suffix: str = "",
    length: int = limits.NAME_LENGTH,
) -> str:
    """`base` with the time behind it, within the characters that SageMaker allows.

    Args:
        base: cut where it is too long.
        now: the time; two names of one base must be a millisecond apart.
        suffix: what tells it from other names of that base, between both.
        length: how many characters are allowed.
    """
    now = now or datetime.now(UTC)
    stamp = now.strftime("%Y%m%d-%H%M%S-") + f"{now.microsecond // 1000:03d}"
    tail = f"-{suffix}-{stamp}" if suffix else f"-{stamp}"
    return f"{base[: length - len(tail)].rstrip('-')}{tail}"


def cut(base: str) -> str:
    """The beginning of `base` that is left in each name made of it, however short names must be."""
    return base[: limits.TUNING_NAME_LENGTH - _STAMP_LENGTH].rstrip("-")


def is_made_of(name: str, base: str) -> bool:
    """Whether a name is `base`, begins with it and a hyphen, or may be one that was cut.

    What was cut may be of another base with the same beginning: its tags tell.
    """
    if name == base or name.startswith(f"{base}-"):
        return True
    made = _CUT.match(name)
    # A hyphen is cut off too, where the cut leaves it at the end.
    return made is not None and len(made[0]) >= limits.TUNING_NAME_LENGTH - 1 and base.startswith(
        made["base"])  # fmt: skip


def tags(config: JobConfig) -> list[dict[str, str]]:
    """The user's tags and the one by which we find our own things again."""
    pairs = {**config.aws.tags, limits.TAG_KEY: config.name}
    return [{"Key": key, "Value": value} for key, value in pairs.items()]


def vpc_config(network: Network) -> Request:
    return {"Subnets": network.subnets, "SecurityGroupIds": network.security_groups}
