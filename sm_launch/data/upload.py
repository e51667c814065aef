"""Prepared channels to S3, where a training job can read them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from sm_launch.data.split import SPLITS
from sm_launch.data.write import MANIFEST
from sm_launch.errors import UserInputError


class Channels(Protocol):
    """The part of a stage that uploading needs."""

    def channel(self, name: str, location: str) -> str: ...


def upload(stage: Channels, prepared: Path, names: Iterable[str] = SPLITS) -> dict[str, str]:
    """Send what `data prepare` wrote; returns channel name to s3:// URI.

    Keys hold a digest of the content: what is there already is not sent again, so that a broken-off
    upload can be repeated.

    Raises:
        UserInputError: nothing was prepared.
    """
    channels = {name: prepared / name for name in names if (prepared / name).is_dir()}
    if not channels or not (prepared / MANIFEST).is_file():
        raise UserInputError(
            "there are no prepared channels",
            field="data",
            value=str(prepared),
            fix="run `sm-launch data prepare` first",
        )
    return {name: stage.channel(name, str(path)) for name, path in channels.items()}
