"""The channels of a training job: what job.yaml names, or what `sm-launch data prepare` wrote."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from sm_launch.aws.uris import meant
from sm_launch.errors import UserInputError
from sm_launch.job import user_script
from sm_launch.job.config import JobConfig
from sm_launch.job.hyperparameter_names import PROGRAM
from sm_launch.job.hyperparameters import split_channels
from sm_launch.target.data_sets import check_alone, check_data_sets, data_set_of

DEFAULT_CHANNELS = ("train", "validation", "test")


def resolve_channels(config: JobConfig) -> dict[str, str]:
    """Channel name to an absolute local path or s3:// URI.

    Without `training.channels` these are what `sm-launch data prepare` wrote.

    Raises:
        UserInputError: nothing prepared, or a path that does not exist.
    """
    code = {"code": str(user_script.place(config))} if config.training.script else {}
    channels = _data_channels(config)
    if PROGRAM not in config.training.hyperparameters:
        check_data_sets(channels, config.training.hyperparameters)
    return channels | code


def _data_channels(config: JobConfig) -> dict[str, str]:
    named = config.training.channels
    if not named:
        by_container = {"dataset_name", "datasets"} & config.training.hyperparameters.keys()
        if by_container and config.data is None:
            return {}  # the container loads it from the Hub
        if config.training.script and config.data is None:
            return {}  # a script may need none
        return _prepared_channels(config)
    if PROGRAM not in config.training.hyperparameters:  # a script reads what it likes
        check_channel_names(list(named), list(config.training.hyperparameters.values()))
    resolved = {}
    for name, location in named.items():
        if location.startswith("s3://"):
            resolved[name] = location
            continue
        path = _from_hub(location) if location.startswith("hf://") else config.path(location)
        if not path.exists():
            raise UserInputError(
                "no such file or directory",
                field=f"training.channels.{name}",
                value=str(path),
                fix=_instead(location),
            )
        resolved[name] = str(path)
    return resolved


def _instead(location: str) -> str:
    if uri := meant(location):
        return f"write {uri}"
    return "correct the path; relative paths start at the directory of job.yaml"


def check_channel_names(names: list[str], settings: Sequence[object] = ()) -> None:
    """Refuse what the training container would refuse after it started.

    Args:
        names: the channels.
        settings: values of hyperparameters, which may name a channel (channel:NAME).

    Raises:
        UserInputError: two channels of one split, or a name that is nearly a split's.
    """
    splits = split_channels()
    usual = {name: split for split, known in splits.items() for name in known}
    unnamed = [name for name in names if not any(name in str(value) for value in settings)]
    for name in unnamed:
        first = re.split(r"[-_.]", name.lower())[0]
        near = get_close_matches(name.lower(), usual, n=1, cutoff=0.8) or [first] * (first in usual)
        if near and name.lower() not in usual and data_set_of(name) is None:
            raise UserInputError(
                "is no channel that training reads",
                field=f"training.channels.{name}",
                fix=f"name it {usual[near[0]]} if that is what it holds "
                f"({usual[near[0]]}-NAME for one of several data sets)",
            )
    for split in splits:
        check_alone([name for name in names if name in unnamed or name.lower() in usual], split)


def _prepared_channels(config: JobConfig) -> dict[str, str]:
    directory = config.prepared_path
    channels = {
        name: str(directory / name) for name in DEFAULT_CHANNELS if (directory / name).is_dir()
    }
    if "train" not in channels:
        raise UserInputError(
            "there is no prepared data",
            field="training.channels",
            value=str(directory),
            fix="run `sm-launch data prepare` first, or name the channels in job.yaml",
        )
    return channels


def _from_hub(location: str) -> Path:
    """One file, in the Hub's own cache: a job's channel needs it for as long as the job runs."""
    from sm_launch.data.hub import fetch

    with tempfile.TemporaryDirectory(prefix="sm-launch-data-") as directory:
        path = fetch(location, Path(directory))
        if path.is_relative_to(directory):
            raise UserInputError(
                "names several files",
                field="training.channels",
                value=location,
                fix="name one file; or name them in the `data` section and prepare them",
            )
        return path
