"""Which files are training, validation and test data: by their channel, or by their own names.

Nothing is half ignored: what cannot be told apart is refused, and what is not read is named.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sm_train.contract import RESERVED_CHANNELS, SPLIT_CHANNELS, Paths, data_set_of
from sm_train.data.readers import channel_files
from sm_train.errors import UserError

if TYPE_CHECKING:
    from sm_train.settings.settings import Config

_NAMES = {name: split for split, names in SPLIT_CHANNELS.items() for name in names}


@dataclass(frozen=True)
class SplitFiles:
    """Files of a split, the channel that holds them, and the data set that they are of."""

    channel: Path
    files: tuple[Path, ...]
    name: str = ""  # where the split has several data sets


def setting_values(config: Config) -> list[str]:
    """What settings say, one by one: channels and files may be named in them."""
    groups = (vars(config.job), vars(config.model), vars(config.own), config.training)
    values = [value for group in groups for value in group.values()]
    return [str(v) for value in values for v in (value if isinstance(value, list) else [value])]


def split_files(paths: Paths, values: Iterable[str] = ()) -> dict[str, list[SplitFiles]]:
    """Split name to its files, as far as there are any; one entry for each of its data sets.

    Raises UserError for a channel without data, and for one whose files are of several splits
    where it cannot be told what is meant.

    `values`: those of the settings; a channel that they name is no data set.
    """
    channels = {split: _channels_of(paths, split, list(values)) for split in SPLIT_CHANNELS}
    splits: dict[str, list[SplitFiles]] = {}
    for split, of_split in channels.items():
        for name, channel in of_split.items():
            for kind, files in _by_split(channel, split).items():
                if kind != split and channels[kind]:
                    raise _mixed(channel, f"{kind} files, and the job has {kind} data beside it")
                splits.setdefault(kind, []).append(SplitFiles(channel, tuple(files), name))
    return splits


def _channels_of(paths: Paths, split: str, values: list[str]) -> dict[str, Path]:
    """The channels of a split by data set; the name of the only one is empty."""
    whole = paths.split(split)
    several: dict[str, Path] = {}
    for channel in _present(paths):
        told = data_set_of(channel.name)
        if told is None or told[0] != split or _is_named(channel, values):
            continue
        if told[1] in several:
            raise UserError(
                f"are both the data set {told[1]} of {split}",
                field=f"channels {several[told[1]].name} and {channel.name}",
                fix="give one of them another name",
            )
        several[told[1]] = channel
    if whole is not None and several:
        others = ", ".join(channel.name for channel in several.values())
        raise UserError(
            f"stands beside {others}: of several data sets each has a name",
            field=f"channel {whole.name}",
            fix=f"name it {split}-NAME, such as {split}-main",
        )
    return several if whole is None else {"": whole}


def _present(paths: Paths) -> list[Path]:
    folders = paths.channels
    return sorted(p for p in folders.iterdir() if p.is_dir()) if folders.is_dir() else []


def _by_split(channel: Path, split: str) -> dict[str, list[Path]]:
    """A channel's files by split: its own, unless their names tell of several."""
    kinds: dict[str, list[Path]] = {}
    files = channel_files(channel)
    for path in files:
        kinds.setdefault(_named_split(path.relative_to(channel)) or split, []).append(path)
    if len(kinds) == 1:
        return {split: files}  # whatever its name, there is nothing that it differs from
    if split == "train" and "train" in kinds:
        return kinds
    names = " and ".join(sorted(kinds))
    raise _mixed(channel, f"files of {names} by their names")


def _mixed(channel: Path, what: str) -> UserError:
    return UserError(
        f"holds {what}",
        field=f"channel {channel.name}",
        fix="give each split a channel of its own (train, validation, test), or rename the files",
    )


def _named_split(path: Path) -> str | None:
    """The one split that a file's name tells of, or else the nearest folder's."""
    for part in (path.name, *(parent.name for parent in path.parents)):
        parts = re.split(r"[^a-z]+", part.lower())
        told = {_NAMES[word] for word in parts if word in _NAMES}
        if len(told) == 1:
            return told.pop()
    return None


def unread_channels(paths: Paths, values: Iterable[str]) -> list[str]:
    """Warnings for channels that nothing reads; UserError for one that is nearly a split's name.

    `values`: those of the settings, which may name a channel or a file in it.
    """
    given, unread = list(values), []
    for channel in _present(paths):
        name = channel.name.lower()
        if data_set_of(name):
            continue
        if name in _NAMES or name in RESERVED_CHANNELS or _is_named(channel, given):
            continue
        parts = [word for word in re.split(r"[^a-z]+", name) if word in _NAMES]
        near = parts or difflib.get_close_matches(name, _NAMES, n=1, cutoff=0.8)
        if near:
            raise UserError(
                "is no channel that training reads",
                field=f"channel {channel.name}",
                fix=f"name it {_NAMES[near[0]]} if that is what it holds "
                f"({_NAMES[near[0]]}-NAME for one of several data sets), or remove it",
            )
        unread.append(f"channel {channel.name} is not read: no setting names it")
    return unread


def _is_named(channel: Path, values: Iterable[str]) -> bool:
    """Whether a setting is channel:NAME, NAME/FILE, or the name of a file in the channel."""
    for value in values:
        place = value.removeprefix("channel:").split(":")[0]
        if place == channel.name or place.startswith(f"{channel.name}/"):
            return True
        if "\n" not in place and 0 < len(place) < 200 and (channel / place).is_file():
            return True
    return False
