"""Channels to checked rows: bad ones are set aside with reasons, too many of them fail the job."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from sm_train.contract import SPLIT_CHANNELS, Paths, data_set_of
from sm_train.data.cleaning import Source, is_text, read_source, write_rejected
from sm_train.data.images import Pictures, has_images, is_image_file, without_images
from sm_train.data.mixing import check_names, config_of, mix
from sm_train.data.readers import read_files, unread_files, whole_files
from sm_train.data.splits import SplitFiles, setting_values, split_files, unread_channels
from sm_train.data.streaming import open_streams
from sm_train.errors import UserError, shorten
from sm_train.rows import Data, Origin, Rows
from sm_train.settings.settings import Config

REJECTED = "rejected.jsonl"


def load_data(paths: Paths, config: Config) -> Data:
    """Read and check every channel. Raises UserError when a split cannot be used."""
    splits: dict[str, Rows] = {}
    rejected: dict[str, int] = {}
    origins: dict[str, list[Origin]] = {}
    notes: list[str] = []
    stream = None
    paths.output_data.mkdir(parents=True, exist_ok=True)
    main = os.environ.get("RANK", "0") == "0"  # other ranks would undo what it adds later
    record = paths.output_data / REJECTED if main else Path(os.devnull)
    with record.open("w", encoding="utf-8", errors="backslashreplace") as file:
        by_split = _sources(paths, config, notes)
        for split, sources in by_split.items():
            if split == "train" and config.job.streaming:
                streamed = open_streams(sources, config, file, notes)
                splits[split], origins[split] = streamed.head, streamed.origins
                rejected[split], stream = streamed.rejected, streamed.stream
                continue
            sizes: dict[str, int] = {}
            splits[split], origins[split], rejected[split] = [], [], 0
            for source in sources:
                rows, places, bad = read_source(source, file, notes)
                sizes[source.data_set] = len(rows)
                splits[split] += rows
                origins[split] += places
                rejected[split] += bad
            if split == "train" and "" not in sizes:
                splits[split], origins[split] = _mixed(splits, origins, sizes, config, notes)
    for pictures in dict.fromkeys(each.pictures for of in by_split.values() for each in of):
        notes += _files_not_read(pictures)
    if any(has_images(row) for rows in splits.values() for row in rows):
        splits = {split: [without_images(row) for row in rows] for split, rows in splits.items()}
    if "test" in splits and config.training.get("eval_strategy", "no") != "no":
        splits.setdefault("validation", splits["test"])
        origins.setdefault("validation", origins["test"])
    held_out = splits.get("validation"), splits.get("test")
    data = Data(splits.get("train", []), *held_out, rejected, origins, tuple(notes), stream)
    _check_evaluation(config, data)
    config.method.check_data(config, data)
    return data


def _mixed(
    splits: dict[str, Rows],
    origins: dict[str, list[Origin]],
    sizes: dict[str, int],
    config: Config,
    notes: list[str],
) -> tuple[Rows, list[Origin]]:
    """The train rows of an epoch, drawn from several data sets."""
    mixture = mix(sizes, config)
    notes += mixture.notes
    rows, places = splits["train"], origins["train"]
    return [rows[row] for row in mixture.order], [places[row] for row in mixture.order]


def _sources(paths: Paths, config: Config, notes: list[str]) -> dict[str, list[Source]]:
    """The channels, or without a train channel what dataset_name or datasets names."""
    values = setting_values(config)
    notes += unread_channels(paths, values)
    files = split_files(paths, values)
    check_names(config, {split: [held.name for held in of] for split, of in files.items()})
    places = {
        held.channel: Pictures(held.channel, paths.scratch) for of in files.values() for held in of
    }
    sources = {
        split: [
            _channel_source(held, split, config, places[held.channel], notes) for held in of_split
        ]
        for split, of_split in files.items()
    }
    if "train" not in sources and config.dataset.named:
        from sm_train.data.remote import remote_rows, remote_splits

        for split, rows in remote_splits(config.dataset).items():
            name = f"{split} split of {config.dataset.dataset_name or 'datasets'}"
            read = partial(remote_rows, rows, name)
            pictures = Pictures(None, paths.scratch)
            sources.setdefault(split, [Source(name, read, config, pictures)])
    if "train" in sources or not config.method.trains:
        return sources
    present = [p.name for p in _subfolders(paths.channels)]
    raise UserError(
        f"is missing; channels present: {present or 'none'}",
        field="channel train",
        fix="give the job a channel named train",
    )


def _files_not_read(pictures: Pictures) -> list[str]:
    """Notes on what lies in a channel and no row needs."""
    if pictures.channel is None:
        return []
    channel, unread = pictures.channel, unread_files(pictures.channel)
    if pictures.used:
        spare = [n for n in unread if is_image_file(n) and channel / n not in pictures.used]
        unread = [name for name in unread if not is_image_file(name)]
        if spare:
            unread.append(f"{len(spare)} images that no row names, such as {spare[0]}")
    if not unread:
        return []
    return [f"channel {channel.name}: files not read: {shorten(', '.join(unread))}"]


def _channel_source(
    held: SplitFiles, split: str, config: Config, pictures: Pictures, notes: list[str]
) -> Source:
    """The rows of a channel's files; notes what of them is of another split."""
    channel = held.channel
    if not _is_of(channel.name, split):
        names = ", ".join(str(path.relative_to(channel)) for path in held.files)
        notes.append(f"channel {channel.name}: {shorten(names)} is taken as {split} data")
    own = config_of(config, held.name)
    if split == "train" and config.job.streaming and (whole := whole_files(held.files)):
        raise UserError(
            f"has files that are read as a whole: {shorten(', '.join(p.name for p in whole))}",
            field=f"channel {channel.name}",
            fix="write them as JSON Lines or Parquet, or remove streaming",
        )
    read = partial(read_files, channel, held.files, partial(is_text, own))
    return Source(f"channel {channel.name}", read, own, pictures, held.name)


def _is_of(channel: str, split: str) -> bool:
    """Whether a channel is of a split by its name."""
    told = data_set_of(channel)
    return channel.lower() in SPLIT_CHANNELS[split] if told is None else told[0] == split


def _subfolders(path: Path) -> list[Path]:
    return sorted(p for p in path.iterdir() if p.is_dir()) if path.is_dir() else []


def _check_evaluation(config: Config, data: Data) -> None:
    if data.validation is not None:
        return
    for key in ("eval_strategy", "load_best_model_at_end", "early_stopping_patience"):
        value = config.training.get(key, getattr(config.job, key, None))
        if key in config.given and value not in (None, False, "no"):
            raise UserError(
                "needs a validation channel, and the job has none",
                field=key,
                value=value,
                fix="add a channel named validation or remove the setting",
            )


def set_aside(data: Data, split: str, bad: Sequence[tuple[int, str]], paths: Paths | None) -> Data:
    """The data without some rows of a split, given by their places with the reasons.

    They are added to rejected.jsonl under `paths`; None writes nothing.
    """
    rows, origins = data.split(split) or [], data.origins.get(split, [])
    if paths is not None:
        file = paths.output_data / REJECTED
        with file.open("a", encoding="utf-8", errors="backslashreplace") as record:
            for place, reason in bad:
                write_rejected(
                    record, origins[place], reason, json.dumps(rows[place], ensure_ascii=False)
                )
    gone = {place for place, _ in bad}
    kept = [place for place in range(len(rows)) if place not in gone]
    changed: dict[str, Any] = {split: [rows[place] for place in kept]}
    return replace(
        data,
        rejected={**data.rejected, split: data.rejected.get(split, 0) + len(bad)},
        origins={**data.origins, split: [origins[place] for place in kept]},
        **changed,
    )
