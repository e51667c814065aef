"""Channels to checked rows: bad ones are set aside with reasons, too many of them fail the job."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from sm_train.config import Config
from sm_train.contract import SPLIT_CHANNELS, Paths
from sm_train.errors import UserError, shorten
from sm_train.formats import renaming
from sm_train.readers import RawRow, read_channel

_SHOWN_RAW = 2000


@dataclass(frozen=True)
class Data:
    """The rows of each split; a split without a channel is None."""

    train: list[dict[str, Any]]
    validation: list[dict[str, Any]] | None
    test: list[dict[str, Any]] | None
    rejected: dict[str, int] = field(default_factory=dict)  # by split

    def split(self, name: str) -> list[dict[str, Any]] | None:
        """train, validation or test."""
        rows: list[dict[str, Any]] | None = getattr(self, name)
        return rows


@dataclass(frozen=True)
class Source:
    """Where the rows of a split come from, and what to call that place."""

    name: str
    rows: Iterator[RawRow]


def load_data(paths: Paths, config: Config) -> Data:
    """Read and check every channel. Raises UserError when a split cannot be used."""
    splits: dict[str, list[dict[str, Any]]] = {}
    rejected: dict[str, int] = {}
    paths.output_data.mkdir(parents=True, exist_ok=True)
    record = paths.output_data / "rejected.jsonl"
    with record.open("w", encoding="utf-8", errors="backslashreplace") as file:
        for split, source in _sources(paths, config).items():
            splits[split], rejected[split] = _read_split(source, config, file)
    if "test" in splits and config.training.get("eval_strategy", "no") != "no":
        splits.setdefault("validation", splits["test"])
    data = Data(splits["train"], splits.get("validation"), splits.get("test"), rejected)
    _check_evaluation(config, data)
    config.method.check_data(config, data)
    return data


def _sources(paths: Paths, config: Config) -> dict[str, Source]:
    """The channels, or without a train channel what dataset_name or datasets names."""
    found: dict[str, Source] = {}
    for split in SPLIT_CHANNELS:
        channel = paths.split(split)
        if channel is not None:
            found[split] = Source(f"channel {channel.name}", read_channel(channel))
    if "train" not in found and config.dataset.named:
        from sm_train.remote import remote_rows, remote_splits

        for split, rows in remote_splits(config.dataset).items():
            name = f"{split} split of {config.dataset.dataset_name or 'datasets'}"
            found.setdefault(split, Source(name, remote_rows(rows, name)))
    if "train" in found:
        return found
    present = [p.name for p in _subfolders(paths.channels)]
    raise UserError(
        f"is missing; channels present: {present or 'none'}",
        field="channel train",
        fix="give the job a channel named train",
    )


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
    source: Source, config: Config, record: IO[str]
) -> tuple[list[dict[str, Any]], int]:
    good: list[dict[str, Any]] = []
    reasons: Counter[str] = Counter()
    groups = [tuple(group) for group in config.method.required_columns(config)]
    seen: set[str] = set()
    parsed = 0
    for raw in source.rows:
        try:
            for row in config.method.expand(_renamed(_parsed(raw), config.job.columns)):
                parsed += 1
                seen.update(row)
                reason = _clean(row, groups, config, good)
                if reason:
                    reasons[reason] += 1
                    _record(record, source.name, replace(raw, value=row), reason)
        except (ValueError, TypeError, AttributeError) as error:
            reasons[str(error)] += 1
            _record(record, source.name, raw, str(error))
    _check_seen(source.name, groups, seen, parsed)
    _check_share(source.name, len(good), reasons, config.job.max_rejected_share)
    return good, reasons.total()


def _clean(
    row: dict[str, Any],
    groups: Iterable[tuple[str, ...]],
    config: Config,
    good: list[dict[str, Any]],
) -> str | None:
    """Add the cleaned row to `good`; the reason when it is bad."""
    try:
        _check_columns(row, groups)
        cleaned = config.method.clean_row(row, config)
        check_storable(cleaned)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        return str(error)
    good.append(cleaned)
    return None


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
    return {str(columns.get(name, name)): value for name, value in row.items()} if columns else row


def _check_columns(row: dict[str, Any], groups: Iterable[tuple[str, ...]]) -> None:
    for group in groups:
        if not any(name in row for name in group):
            raise ValueError(f"no column {' or '.join(group)}")


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
    found: dict[str, str] = {}
    for group in groups:
        found |= {} if seen.intersection(group) else renaming(group, seen)
    learns_answers = any("messages" in group for group in groups)
    if learns_answers and "prompt" in found.values() and "completion" not in seen:
        found |= renaming(("completion",), seen)
    if found:
        return f"rename with the hyperparameter columns: {json.dumps(found)}"
    return (
        "name the column in a hyperparameter (such as text_column), or rename it with columns, "
        'for example {"review": "text"}'
    )


def _check_share(source: str, good: int, reasons: Counter[str], limit: float) -> None:
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
    line = {
        "channel": source.removeprefix("channel "),
        "file": raw.file,
        "row": raw.number,
        "reason": reason,
        "raw": text[:_SHOWN_RAW],
    }
    file.write(json.dumps(line, ensure_ascii=False) + "\n")
