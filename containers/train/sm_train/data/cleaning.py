"""Raw rows of a source to rows to learn from: bad ones are set aside with reasons."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import IO, Any

from sm_train.data.cells import INDEX_NAMES, text_of
from sm_train.data.formats import renaming
from sm_train.data.images import COLUMNS, Pictures, check_no_images, with_images
from sm_train.data.prompts import filled, template_columns
from sm_train.data.readers import RawRow
from sm_train.errors import UserError, shorten
from sm_train.rows import Origin, Row, Rows
from sm_train.settings.settings import Config

_SHOWN_RAW = 2000


@dataclass(frozen=True)
class Source:
    """Where the rows of a split come from, and what to call that place."""

    name: str
    read: Callable[[], Iterator[RawRow]]
    config: Config  # the settings by which they are read
    pictures: Pictures  # where their images lie
    data_set: str = ""  # where the split has several

    @property
    def channel(self) -> str:
        """What rejected.jsonl calls it."""
        return self.name.removeprefix("channel ")


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


@dataclass
class Tally:
    """What came of the rows of a source so far."""

    columns: Columns = field(default_factory=Columns)
    reasons: Counter[str] = field(default_factory=Counter)
    parsed: int = 0
    good: int = 0

    @property
    def bad(self) -> int:
        """Rows that were set aside."""
        return self.reasons.total()


def clean_rows(source: Source, tally: Tally, record: IO[str]) -> Iterator[tuple[Row, Origin]]:
    """The good rows of a source, one by one; the others go to `record` with their reasons."""
    config = source.config
    groups = [tuple(group) for group in config.method.required_columns(config)]
    for raw in source.read():
        origin = Origin(source.channel, raw.file, raw.number)
        try:
            for row in config.method.expand(_parsed(raw)):
                tally.parsed += 1
                try:
                    good = _clean(replace(raw, value=row), groups, source, tally.columns)
                except (ValueError, TypeError, KeyError, RecursionError) as error:
                    tally.reasons[str(error)] += 1
                    _record(record, origin, replace(raw, value=row), str(error))
                    continue
                tally.good += 1
                yield good, origin
        except (ValueError, TypeError, AttributeError) as error:
            tally.reasons[str(error)] += 1
            _record(record, origin, raw, str(error))


def read_source(
    source: Source, record: IO[str], notes: list[str]
) -> tuple[Rows, list[Origin], int]:
    """All good rows of a source, where each is from, and how many bad ones there were.

    Raises UserError when it cannot be used.
    """
    tally = Tally()
    pairs = list(clean_rows(source, tally, record))
    check_source(source, tally, notes)
    return [row for row, _ in pairs], [origin for _, origin in pairs], tally.bad


def check_source(source: Source, tally: Tally, notes: list[str]) -> None:
    """Raise UserError when a source cannot be used; note the columns that nobody looked at."""
    config = source.config
    groups = [tuple(group) for group in config.method.required_columns(config)]
    seen = tally.columns.seen
    _check_template(source.name, config, seen, tally.parsed)
    built = set() if config.job.prompt_template is None else {"prompt"}
    _check_seen(source.name, groups, seen | built, tally.parsed)
    check_share(source.name, tally.good, tally.reasons, config.job.max_rejected_share)
    if unread := tally.columns.unread():
        notes.append(f"{source.name}: columns not read: {', '.join(map(str, unread))}")


def is_text(config: Config, name: str) -> bool:
    """Whether a column of the data, under its own name, is read as text."""
    template = config.job.prompt_template
    if template is not None and name in template_columns(template):
        return True
    return config.method.reads_text(config, str(config.job.columns.get(name, name)))


def _clean(
    origin_row: RawRow,
    groups: Iterable[tuple[str, ...]],
    source: Source,
    columns: Columns,
) -> Row:
    """The row to learn from. Raises ValueError, TypeError, KeyError, RecursionError."""
    read: set[str] = set()
    config, raw = source.config, _parsed(origin_row)
    row = _named(raw, config)
    columns.seen.update(row)
    row = _with_prompt(row, raw, config, read)
    _check_columns(row, groups)
    cleaned = config.method.clean_row(RecordedRow(row, read), config)
    if config.method.images and not config.job.streaming:
        cleaned = with_images(cleaned, row, source.pictures, origin_row.file)
        read.update(name for name in COLUMNS if name in row)
    else:
        check_no_images(cleaned, row, config)
    check_storable(cleaned)
    columns.read |= read | cleaned.keys()
    return cleaned


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


def _record(file: IO[str], origin: Origin, raw: RawRow, reason: str) -> None:
    text = raw.raw if raw.value is None else json.dumps(raw.value, ensure_ascii=False, default=str)
    write_rejected(file, origin, reason, text)


def write_rejected(file: IO[str], origin: Origin, reason: str, text: str) -> None:
    """A line of rejected.jsonl."""
    line = {
        "channel": origin.channel,
        "file": origin.file,
        "row": origin.number,
        "reason": reason,
        "raw": text[:_SHOWN_RAW],
    }
    file.write(json.dumps(line, ensure_ascii=False) + "\n")
