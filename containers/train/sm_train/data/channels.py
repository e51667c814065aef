"""Channels to checked rows: bad ones are set aside with reasons, too many of them fail the job."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from sm_train.contract import Paths
from sm_train.data.cells import INDEX_NAMES, text_of
from sm_train.data.formats import renaming
from sm_train.data.images import (
    COLUMNS,
    Pictures,
    check_no_images,
    has_images,
    is_image_file,
    with_images,
    without_images,
)
from sm_train.data.prompts import filled, template_columns
from sm_train.data.readers import RawRow, read_files, unread_files
from sm_train.data.splits import split_files, unread_channels
from sm_train.errors import UserError, shorten
from sm_train.rows import Data, Origin, Rows
from sm_train.settings.settings import Config

REJECTED = "rejected.jsonl"
_SHOWN_RAW = 2000


@dataclass(frozen=True)
class Source:
    """Where the rows of a split come from, what to call that place, and where images lie."""

    name: str
    rows: Iterator[RawRow]
    pictures: Pictures


class RecordedRow(dict[str, Any]):
    """A row that remembers which of its columns were looked at."""

    def __init__(self, row: dict[str, Any], read: set[str]) -> None:
        super().__init__(row)
        self._read = read

    def __getitem__(self, name: str) -> Any:
        self._read.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        """As a dict's."""
        self._read.add(name)
        return super().get(name, default)


@dataclass
class Columns:
    """The columns of a split: those that any row has, and those that were read of a good one."""

    seen: set[str] = field(default_factory=set)
    read: set[str] = field(default_factory=set)

    def unread(self) -> list[str]:
        """What nobody looked at, and has to be told."""
        return sorted(self.seen - self.read)


def load_data(paths: Paths, config: Config) -> Data:
    """Read and check every channel. Raises UserError when a split cannot be used."""
    splits: dict[str, Rows] = {}
    rejected: dict[str, int] = {}
    origins: dict[str, list[Origin]] = {}
    notes: list[str] = []
    paths.output_data.mkdir(parents=True, exist_ok=True)
    main = os.environ.get("RANK", "0") == "0"  # other ranks would undo what it adds later
    record = paths.output_data / REJECTED if main else Path(os.devnull)
    with record.open("w", encoding="utf-8", errors="backslashreplace") as file:
        sources = _sources(paths, config, notes)
        for split, source in sources.items():
            rows = _read_split(source, config, file, notes)
            splits[split], origins[split], rejected[split] = rows
    for pictures in dict.fromkeys(source.pictures for source in sources.values()):
        notes += _files_not_read(pictures)
    if any(has_images(row) for rows in splits.values() for row in rows):
        splits = {split: [without_images(row) for row in rows] for split, rows in splits.items()}
    if "test" in splits and config.training.get("eval_strategy", "no") != "no":
        splits.setdefault("validation", splits["test"])
        origins.setdefault("validation", origins["test"])
    held_out = splits.get("validation"), splits.get("test")
    data = Data(splits.get("train", []), *held_out, rejected, origins, tuple(notes))
    _check_evaluation(config, data)
    config.method.check_data(config, data)
    return data


def _sources(paths: Paths, config: Config, notes: list[str]) -> dict[str, Source]:
    """The channels, or without a train channel what dataset_name or datasets names."""
    notes += unread_channels(paths, map(str, _values(config)))
    sources: dict[str, Source] = {}
    shared: dict[Path, Pictures] = {}
    for split, held in split_files(paths).items():
        channel = held.channel
        if channel != paths.split(split):
            names = ", ".join(str(path.relative_to(channel)) for path in held.files)
            notes.append(f"channel {channel.name}: {shorten(names)} is taken as {split} data")
        rows = read_files(channel, held.files, lambda name: _is_text(config, name))
        pictures = shared.setdefault(channel, Pictures(channel, paths.scratch))
        sources[split] = Source(f"channel {channel.name}", rows, pictures)
    if "train" not in sources and config.dataset.named:
        from sm_train.data.remote import remote_rows, remote_splits

        for split, rows in remote_splits(config.dataset).items():
            name = f"{split} split of {config.dataset.dataset_name or 'datasets'}"
            pictures = Pictures(None, paths.scratch)
            sources.setdefault(split, Source(name, remote_rows(rows, name), pictures))
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


def _values(config: Config) -> list[Any]:
    """What settings say, one by one: channels and files may be named in them."""
    groups = (vars(config.job), vars(config.model), vars(config.own), config.training)
    values = [value for group in groups for value in group.values()]
    return [v for value in values for v in (value if isinstance(value, list) else [value])]


def _is_text(config: Config, name: str) -> bool:
    """Whether a column of the data, under its own name, is read as text."""
    template = config.job.prompt_template
    if template is not None and name in template_columns(template):
        return True
    return config.method.reads_text(config, str(config.job.columns.get(name, name)))


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


def _read_split(
    source: Source, config: Config, record: IO[str], notes: list[str]
) -> tuple[Rows, list[Origin], int]:
    good: Rows = []
    origins: list[Origin] = []
    reasons: Counter[str] = Counter()
    groups = [tuple(group) for group in config.method.required_columns(config)]
    columns = Columns()
    parsed = 0
    for raw in source.rows:
        try:
            for row in config.method.expand(_parsed(raw)):
                parsed += 1
                reason = _clean(replace(raw, value=row), groups, config, columns, source, good)
                if reason:
                    reasons[reason] += 1
                    _record(record, source.name, replace(raw, value=row), reason)
                else:
                    origins.append(Origin(_channel(source.name), raw.file, raw.number))
        except (ValueError, TypeError, AttributeError) as error:
            reasons[str(error)] += 1
            _record(record, source.name, raw, str(error))
    _check_template(source.name, config, columns.seen, parsed)
    built = set() if config.job.prompt_template is None else {"prompt"}
    _check_seen(source.name, groups, columns.seen | built, parsed)
    check_share(source.name, len(good), reasons, config.job.max_rejected_share)
    if unread := columns.unread():
        notes.append(f"{source.name}: columns not read: {', '.join(map(str, unread))}")
    return good, origins, reasons.total()


def set_aside(data: Data, split: str, bad: Sequence[tuple[int, str]], paths: Paths | None) -> Data:
    """The data without some rows of a split, given by their places with the reasons.

    They are added to rejected.jsonl under `paths`; None writes nothing.
    """
    rows, origins = data.split(split) or [], data.origins.get(split, [])
    if paths is not None:
        file = paths.output_data / REJECTED
        with file.open("a", encoding="utf-8", errors="backslashreplace") as record:
            for place, reason in bad:
                _write(record, origins[place], reason, json.dumps(rows[place], ensure_ascii=False))
    gone = {place for place, _ in bad}
    kept = [place for place in range(len(rows)) if place not in gone]
    changed: dict[str, Any] = {split: [rows[place] for place in kept]}
    return replace(
        data,
        rejected={**data.rejected, split: data.rejected.get(split, 0) + len(bad)},
        origins={**data.origins, split: [origins[place] for place in kept]},
        **changed,
    )


def _clean(
    origin_row: RawRow,
    groups: Iterable[tuple[str, ...]],
    config: Config,
    columns: Columns,
    source: Source,
    good: Rows,
) -> str | None:
    """Add the cleaned row to `good`; the reason when it is bad."""
    read: set[str] = set()
    raw = _parsed(origin_row)
    row = _named(raw, config)
    columns.seen.update(row)
    try:
        row = _with_prompt(row, raw, config, read)
        _check_columns(row, groups)
        cleaned = config.method.clean_row(RecordedRow(row, read), config)
        if not config.method.images:
            check_no_images(cleaned, row, config.method)
        else:
            cleaned = with_images(cleaned, row, source.pictures, origin_row.file)
            read.update(name for name in COLUMNS if name in row)
        check_storable(cleaned)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        return str(error)
    columns.read |= read | cleaned.keys()
    good.append(cleaned)
    return None


def _named(raw: dict[str, Any], config: Config) -> dict[str, Any]:
    """The row under the names that the method wants, its text columns as text."""
    row = _renamed(raw, config.job.columns)
    reads_text = config.method.reads_text
    return {
        name: text_of(value) if reads_text(config, name) else value
        for name, value in row.items()
        if name not in INDEX_NAMES
    }


def _with_prompt(
    row: dict[str, Any], raw: dict[str, Any], config: Config, read: set[str]
) -> dict[str, Any]:
    """With the prompt that prompt_template makes of the columns, by old or new names."""
    template = config.job.prompt_template
    if template is None:
        return row
    read.update(template_columns(template))
    return {**row, "prompt": filled(template, {**raw, **row})}


def check_storable(value: Any) -> None:
    """Raise ValueError for what Arrow cannot hold: half characters, numbers of over 64 bits."""
    if isinstance(value, str):
        if not value.isascii():
            value.encode()  # UnicodeEncodeError, a ValueError, for a lone surrogate
    elif isinstance(value, dict):
        for key, item in value.items():
            check_storable(key)
            check_storable(item)
    elif isinstance(value, list):
        for item in value:
            check_storable(item)
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError("a whole number of more than 64 bits")


def _parsed(raw: RawRow) -> dict[str, Any]:
    if raw.value is None:
        raise ValueError(raw.reason)
    return raw.value


def _renamed(row: dict[str, Any], columns: dict[str, Any]) -> dict[str, Any]:
    if not columns:
        return row
    renamed = {str(columns.get(name, name)): value for name, value in row.items()}
    if len(renamed) < len(row):
        raise ValueError("columns gives a column the name of another one, which would be lost")
    return renamed


def _check_columns(row: dict[str, Any], groups: Iterable[tuple[str, ...]]) -> None:
    for group in groups:
        if not any(name in row for name in group):
            raise ValueError(f"no column {' or '.join(group)}")


def _check_template(source: str, config: Config, seen: set[str], parsed: int) -> None:
    """A column that prompt_template names and no row has is a misspelt one."""
    template = config.job.prompt_template
    known = seen | {name for name, new in config.job.columns.items() if new in seen}
    missing = [name for name in template_columns(template or "") if name not in known]
    if parsed and missing:
        raise UserError(
            f"names columns that {source} does not have: {', '.join(missing)}; "
            f"its columns are {sorted(seen)}",
            field="prompt_template",
            value=template,
            fix="correct the names",
        )


def _check_seen(
    source: str, groups: Iterable[tuple[str, ...]], seen: set[str], parsed: int
) -> None:
    """A column that no row has is a wrong setting, not many bad rows."""
    for group in groups:
        if parsed and not seen.intersection(group):
            raise UserError(
                f"the data has no column {' or '.join(repr(n) for n in group)}; "
                f"its columns are {sorted(seen)}",
                field=source,
                fix=_renaming_advice(groups, seen),
            )


def _renaming_advice(groups: Iterable[tuple[str, ...]], seen: set[str]) -> str:
    """How `columns` would mend it: with the data's own names where they can be guessed."""
    renames: dict[str, str] = {}
    for group in groups:
        renames |= {} if seen.intersection(group) else renaming(group, seen)
    learns_answers = any("messages" in group for group in groups)
    if learns_answers and "prompt" in renames.values() and "completion" not in seen:
        renames |= renaming(("completion",), seen)
    if renames:
        return f"rename with the hyperparameter columns: {json.dumps(renames)}"
    return (
        "name the column in a hyperparameter (such as text_column), or rename it with columns, "
        'for example {"review": "text"}'
    )


def check_share(source: str, good: int, reasons: Counter[str], limit: float) -> None:
    """Raise UserError when no row of a source is good, or a larger share is bad than allowed."""
    total = good + reasons.total()
    if not total:
        raise UserError("is empty", field=source, fix="put rows into its files")
    causes = "; ".join(f"{count} × {shorten(why)}" for why, count in reasons.most_common(3))
    if not good:
        raise UserError(f"none of its {total} rows can be used: {causes}", field=source)
    if reasons.total() > limit * total:
        raise UserError(
            f"{reasons.total()} of {total} rows of {source} are bad, more than the limit: {causes}",
            field="max_rejected_share",
            value=limit,
            fix="mend the rows that output/data/rejected.jsonl lists, or raise the limit",
        )


def _record(file: IO[str], source: str, raw: RawRow, reason: str) -> None:
    text = raw.raw if raw.value is None else json.dumps(raw.value, ensure_ascii=False, default=str)
    _write(file, Origin(_channel(source), raw.file, raw.number), reason, text)


def _channel(source: str) -> str:
    return source.removeprefix("channel ")


def _write(file: IO[str], origin: Origin, reason: str, text: str) -> None:
    line = {
        "channel": origin.channel,
        "file": origin.file,
        "row": origin.number,
        "reason": reason,
        "raw": text[:_SHOWN_RAW],
    }
    file.write(json.dumps(line, ensure_ascii=False) + "\n")
