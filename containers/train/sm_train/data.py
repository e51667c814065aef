"""Channels to checked rows: bad ones are set aside with reasons, too many of them fail the job."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from sm_train.config import Config
from sm_train.contract import Paths
from sm_train.errors import UserError, shorten
from sm_train.readers import RawRow, read_channel

# The names under which people upload each split.
SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "eval", "evaluation", "dev"),
    "test": ("test", "testing"),
}
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


def load_data(paths: Paths, config: Config) -> Data:
    """Read and check every channel. Raises UserError when a split cannot be used."""
    splits: dict[str, list[dict[str, Any]] | None] = {}
    rejected: dict[str, int] = {}
    paths.output_data.mkdir(parents=True, exist_ok=True)
    record = paths.output_data / "rejected.jsonl"
    with record.open("w", encoding="utf-8") as file:
        for split in SPLITS:
            channel = find_channel(paths, split)
            if channel is None:
                splits[split] = None
                continue
            rows, bad = _read_split(channel, config, file)
            splits[split], rejected[split] = rows, bad
    train = splits["train"]
    if train is None:
        present = [p.name for p in _subfolders(paths.channels)]
        raise UserError(
            f"is missing; channels present: {present or 'none'}",
            field="channel train",
            fix="give the job a channel named train",
        )
    data = Data(train, splits["validation"], splits["test"], rejected)
    _check_evaluation(config, data)
    config.method.check_data(config, data)
    return data


def find_channel(paths: Paths, split: str) -> Path | None:
    """The directory of a split under any of the names that it goes by."""
    return next((c for name in SPLITS[split] if (c := paths.channel(name)) is not None), None)


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


def _read_split(channel: Path, config: Config, record: IO[str]) -> tuple[list[dict[str, Any]], int]:
    good: list[dict[str, Any]] = []
    reasons: Counter[str] = Counter()
    groups = [tuple(group) for group in config.method.required_columns(config)]
    seen: set[str] = set()
    parsed = 0
    for raw in read_channel(channel):
        try:
            for row in config.method.expand(_renamed(_parsed(raw), config.job.columns)):
                parsed += 1
                seen.update(row)
                reason = _clean(row, groups, config, good)
                if reason:
                    reasons[reason] += 1
                    _record(record, channel.name, replace(raw, value=row), reason)
        except (ValueError, TypeError, AttributeError) as error:
            reasons[str(error)] += 1
            _record(record, channel.name, raw, str(error))
    _check_seen(channel.name, groups, seen, parsed)
    _check_share(channel.name, len(good), reasons, config.job.max_rejected_share)
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
        good.append(config.method.clean_row(row, config))
    except (ValueError, TypeError, KeyError) as error:
        return str(error)
    return None


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
    channel: str, groups: Iterable[tuple[str, ...]], seen: set[str], parsed: int
) -> None:
    """A column that no row has is a wrong setting, not many bad rows."""
    for group in groups:
        if parsed and not seen.intersection(group):
            raise UserError(
                f"the data has no column {' or '.join(repr(n) for n in group)}; "
                f"its columns are {sorted(seen)}",
                field=f"channel {channel}",
                fix="name the column in a hyperparameter (such as text_column), or rename it with "
                'columns, for example {"review": "text"}',
            )


def _check_share(channel: str, good: int, reasons: Counter[str], limit: float) -> None:
    total = good + reasons.total()
    if not total:
        raise UserError("is empty", field=f"channel {channel}", fix="put rows into its files")
    causes = "; ".join(f"{count} × {shorten(why)}" for why, count in reasons.most_common(3))
    if not good:
        raise UserError(
            f"none of its {total} rows can be used: {causes}", field=f"channel {channel}"
        )
    if reasons.total() > limit * total:
        raise UserError(
            f"{reasons.total()} of {total} rows of channel {channel} are bad, more than the limit: "
            f"{causes}",
            field="max_rejected_share",
            value=limit,
            fix="mend the rows that output/data/rejected.jsonl lists, or raise the limit",
        )


def _record(file: IO[str], channel: str, raw: RawRow, reason: str) -> None:
    text = raw.raw if raw.value is None else json.dumps(raw.value, ensure_ascii=False, default=str)
    line = {
        "channel": channel,
        "file": raw.file,
        "row": raw.number,
        "reason": reason,
        "raw": text[:_SHOWN_RAW],
    }
    file.write(json.dumps(line, ensure_ascii=False) + "\n")
