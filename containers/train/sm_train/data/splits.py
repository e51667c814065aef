"""Which files are training, validation and test data: by their channel, or by their own names.

Nothing is half ignored: what cannot be told apart is refused, and what is not read is named.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sm_train.contract import RESERVED_CHANNELS, SPLIT_CHANNELS, Paths
from sm_train.data.readers import channel_files
from sm_train.errors import UserError

_NAMES = {name: split for split, names in SPLIT_CHANNELS.items() for name in names}


@dataclass(frozen=True)
class SplitFiles:
    """The files of a split, and the channel that holds them."""

    channel: Path
    files: tuple[Path, ...]


def split_files(paths: Paths) -> dict[str, SplitFiles]:
    """Split name to its files, as far as there are any.

    Raises UserError for a channel without data, and for one whose files are of several splits
    where it cannot be told what is meant.
    """
    splits: dict[str, SplitFiles] = {}
    for split in SPLIT_CHANNELS:
        channel = paths.split(split)
        if channel is None:
            continue
        for kind, files in _by_split(channel, split).items():
            if kind in splits or (kind != split and paths.split(kind) is not None):
                raise _mixed(channel, f"{kind} files, and the job has {kind} data beside it")
            splits[kind] = SplitFiles(channel, tuple(files))
    return splits


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
    given, folders = list(values), paths.channels
    present = sorted(p for p in folders.iterdir() if p.is_dir()) if folders.is_dir() else []
    unread = []
    for channel in present:
        name = channel.name.lower()
        if name in _NAMES or name in RESERVED_CHANNELS or _is_named(channel, given):
            continue
        parts = [word for word in re.split(r"[^a-z]+", name) if word in _NAMES]
        near = parts or difflib.get_close_matches(name, _NAMES, n=1, cutoff=0.8)
        if near:
            raise UserError(
                "is no channel that training reads",
                field=f"channel {channel.name}",
                fix=f"name it {_NAMES[near[0]]} if that is what it holds, or remove it",
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
