"""A raw row becomes a clean example, or a rejection with its reason."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from sm_launch.data import messages, shapes
from sm_launch.data.chunks import Chunk, cell, find_column, is_null
from sm_launch.data.filters import LanguageFilter, TokenFilter
from sm_launch.data.labels import Label, LabelReader, as_list, is_list
from sm_launch.data.near import signature
from sm_launch.data.shapes import Layout
from sm_launch.data.steps import build, check_characters
from sm_launch.data.times import seconds_since_epoch
from sm_launch.job.data import Column, DataConfig, OutputFormat
from sm_launch.job.tasks import Kind

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_SHOWN_CHARACTERS = 60
_ANSWERS = frozenset({"completion", "chosen", "rejected", "target"})
"""Columns in which `none` or `-` is an answer."""

Place = tuple[int, tuple[str, ...]] | None
Taken = Counter[tuple[str, str]]
"""Column and word to the rows in which the word was taken for a missing value."""


class Rejected(Exception):  # noqa: N818 - a verdict on a row, not a failure of the program
    """The row cannot be used.

    Args:
        reason: one of few words, counted and shown.
        detail: what exactly, with the value.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


class Example(NamedTuple):
    """A usable row."""

    values: tuple[Any, ...]
    """In the order of `RowCleaner.output_names`."""
    key: int
    """64-bit hash of the texts without case and white space: equal texts, equal keys."""
    label: Label | None
    characters: int
    group: int = 0
    time: float = 0.0
    signature: NDArray[np.uint16] | None = None
    """Only where near duplicates are looked for."""


class RowCleaner:
    """Turns rows into examples, as a `DataConfig` says. Holds no state between rows.

    Args:
        config: the `data` section of job.yaml.
        names: all columns of the files.

    Raises:
        UserInputError: a column that every row needs is in none of the files.
    """

    def __init__(self, config: DataConfig, names: Sequence[str]) -> None:
        self._config = config
        self._names = names
        self._clean = build(
            config.effective_steps, config.stem_language, config.lemma_language, config.presidio
        )
        self._missing = frozenset(config.missing.values)
        self._longest_missing = max(map(len, self._missing), default=0)
        self._labels = LabelReader(config)
        self._language = LanguageFilter(config.language) if config.language else None
        self._tokens = TokenFilter(config.tokens) if config.tokens else None
        self.layout: Layout = shapes.lay_out(config, names)
        self._group, self._time = config.split.group, config.split.time
        self._signs = config.duplicates.near is not None
        limits = config.length
        self._least, self._most = limits.min_characters, limits.max_characters

    def __reduce__(self) -> tuple[Any, ...]:
        return (RowCleaner, (self._config, self._names))

    @property
    def allowed_labels(self) -> list[str] | None:
        """In the order of the configuration; None: whatever the data has."""
        return self._labels.allowed

    @property
    def names_labels(self) -> bool:
        """Whether a label is a name, and no number of its own."""
        return self.layout.kinds.get("label") != "number"

    @property
    def output_names(self) -> list[str]:
        """Columns of the channels."""
        return list(self.layout.kinds)

    @property
    def output_format(self) -> OutputFormat:
        """Of the channels."""
        return self._config.output_format

    @property
    def read_columns(self) -> set[Column]:
        """Columns that are read at all."""
        used = {column for several in self.layout.columns.values() for column in several}
        return used | {column for column in (self._group, self._time) if column is not None}

    def check_columns(self, names: list[str], location: str, *, is_table: bool) -> None:
        """Fail early where a file lacks a column.

        Raises:
            UserInputError: naming the file, the column and the nearest one.
        """
        shapes.check_columns(self.layout, self._config, names, location, is_table=is_table)

    def places(self, chunk: Chunk) -> dict[str, list[Place]]:
        """Where the columns of each output stand in this chunk; None: no row of it has the key."""
        wanted = dict(self.layout.columns)
        if self._group is not None:
            wanted["split.group"] = (self._group,)
        if self._time is not None:
            wanted["split.time"] = (self._time,)
        names = chunk.names
        return {
            name: [find_column(names, column) for column in columns]
            for name, columns in wanted.items()
        }

    def clean(self, cells: Any, places: dict[str, list[Place]], taken: Taken) -> Example:
        """Clean one row.

        Args:
            cells: the row as the reader saw it.
            places: from `places`, of the row's chunk.
            taken: counts the words that are taken for missing values.

        Raises:
            Rejected: the row is no use.
        """
        values: dict[str, Any] = {}
        for name, kind in self.layout.kinds.items():
            raw = [cell(cells, place) for place in places[name]]
            values[name] = self._value(name, kind, raw, taken)
        key_text = "\n".join([_as_text(values[name]) for name in self.layout.key])
        limited = self._limited(key_text, may_truncate=self.layout.key == ("text",))
        if limited is not key_text:
            values["text"] = key_text = limited
        folded = "\n".join([_folded(values[name]) for name in self.layout.key])
        group = places.get("split.group")
        return Example(
            values=tuple(values.values()),
            key=hash64(folded),
            label=self._label_of(values),
            characters=len(key_text),
            group=hash64(str(cell(cells, group[0]))) if group else 0,
            time=self._seconds(cells, places),
            signature=self._signature(values) if self._signs else None,
        )

    def _signature(self, values: dict[str, Any]) -> NDArray[np.uint16]:
        """Of each text by itself: a long premise that two rows share makes them no duplicates."""
        import numpy as np

        kinds = self.layout.kinds
        texts = [values[n] for n in self.layout.key if kinds[n] in ("text", "turn", "messages")]
        return np.concatenate([signature(_folded(text)) for text in texts])

    def _label_of(self, values: dict[str, Any]) -> Label | None:
        kind = self.layout.kinds.get("label")
        if kind == "labels":
            return tuple(sorted(values["label"]))
        if kind == "number":
            return repr(values["label"])
        return values["label"] if kind == "label" else None

    def form(self, values: Sequence[Any]) -> str | None:
        """`messages` or `text`: what the turns of a cleaned row are; None for tasks without turns.

        Of one row with both training makes messages.
        """
        kinds = self.layout.kinds.values()
        turns = [value for value, kind in zip(values, kinds, strict=True) if kind == "turn"]
        if not turns:
            return None
        return "messages" if any(isinstance(value, list) for value in turns) else "text"

    def is_doubtful(self, label: str) -> bool:
        """Whether a label is a word that may mean missing: the whole column decides."""
        return self.allowed_labels is None and label.casefold() in self._missing

    def _value(self, name: str, kind: Kind, raw: list[Any], taken: Taken) -> Any:
        value = raw[0] if len(raw) == 1 else _join([part for part in raw if not self._blank(part)])
        if kind == "label":
            return self._label(value, taken)
        if kind == "labels":
            return self._label_list(value, taken)
        if kind == "text":
            return self._text(name, value, taken)
        if kind == "messages":
            return self._messages(name, value, taken)
        if kind == "turn":
            if isinstance(value, list) or messages.looks_like_messages(value):
                return self._messages(name, value, taken)
            optional = name == "prompt" and name not in self.layout.required
            if optional and is_null(value) and not self._config.conversational:
                return None
            return self._turn(name, value, taken)
        if kind == "list":
            return self._list(name, value)
        if name in self.layout.required and self._is_missing(name, value, taken):
            raise Rejected(f"missing_{name}", f"the {name} is {value!r}")
        if kind == "number":
            return _number(name, value)
        if kind == "match":
            return _match(name, value)
        return _unchanged(name, value)

    @staticmethod
    def _blank(value: Any) -> bool:
        return is_null(value) or (isinstance(value, str) and not value.strip())

    def _is_missing(self, name: str, value: Any, taken: Taken) -> bool:
        if not isinstance(value, str):
            return is_null(value)
        bare = value.strip()
        if not bare:
            return True
        if name in _ANSWERS and "values" not in self._config.missing.model_fields_set:
            return False
        if len(bare) > self._longest_missing or bare.casefold() not in self._missing:
            return False
        taken[name, bare] += 1
        return True

    def _text(self, name: str, value: Any, taken: Taken) -> str:
        if self._is_missing(name, value, taken):
            fill = self._config.missing.text
            if fill is None or name in _ANSWERS:
                raise Rejected(f"missing_{name}", f"the {name} is {value!r}")
            value = fill
        if isinstance(value, list | dict | bytes | tuple) or _is_infinite(value):
            raise Rejected(f"invalid_{name}", f"the {name} is a {type(value).__name__}")
        try:
            text = self._clean(check_characters(str(value)))
        except UnicodeError as error:
            raise Rejected("undecodable", f"the {name} is neither UTF-8 nor cp1252") from error
        if not text:
            raise Rejected(f"missing_{name}", f"nothing of the {name} is left after cleaning")
        return text

    def _turn(self, name: str, value: Any, taken: Taken) -> Any:
        """A prompt or an answer that is a text: as messages, or with its side of the seam.

        Training joins prompt and answer as they stand, so that white space between them is theirs.
        """
        text = self._text(name, value, taken)
        if self._config.conversational:
            try:
                return messages.framed(name, text, has_prompt="prompt" in self.layout.kinds)
            except ValueError as error:
                raise Rejected(f"invalid_{name}", str(error)) from error
        if self._config.steps is not None or not isinstance(value, str):
            return text
        if name == "prompt":
            return text + value[len(value.rstrip()) :]
        return value[: len(value) - len(value.lstrip())] + text

    def _limited(self, text: str, *, may_truncate: bool) -> str:
        if len(text) < self._least:
            raise Rejected("too_short", f"{len(text)} of {self._least} characters")
        if len(text) > self._most:
            if self._config.length.too_long == "drop" or not may_truncate:
                raise Rejected("too_long", f"{len(text)} of at most {self._most} characters")
            text = text[: self._most].rstrip()
        if self._language is not None and (problem := self._language.problem(text)):
            raise Rejected("other_language", problem)
        if self._tokens is not None:
            cut, count = self._tokens.apply(text)
            if rejection := self._tokens.problem(count):
                raise Rejected(*rejection)
            if cut != text and not may_truncate:
                raise Rejected("too_many_tokens", f"{count} tokens, and a pair cannot be cut")
            text = cut if cut != text else text
        return text

    def _label(self, value: Any, taken: Taken) -> str:
        if self._blank(value):
            return self._filled_label(value)
        if isinstance(value, bytes) or _is_infinite(value):
            raise Rejected("invalid_label", f"the label is {_short(value)}")
        try:
            label = self._labels.read(value)
        except UnicodeError as error:
            raise Rejected("undecodable", "the label is neither UTF-8 nor cp1252") from error
        if is_list(value) and (label is None or self._labels.allowed is None):
            raise Rejected(
                "invalid_label",
                f"several labels in one cell, and a classifier learns one: {_short(value)}; "
                "several a text need training.hyperparameters.problem_type: "
                "multi_label_classification",
            )
        if label:
            return label
        if self._labels.allowed is not None and self._is_missing("label", value, taken):
            return self._filled_label(value)
        if not label and self._labels.allowed is None:
            return self._filled_label(value)
        raise Rejected("unknown_label", f"the label {_short(value)} is not among those allowed")

    def _label_list(self, value: Any, taken: Taken) -> list[str]:
        """The labels of a text that may have any number; an empty list is one without any."""
        parts = as_list(value)
        separator = self._config.label_separator
        if parts is None and separator is not None and isinstance(value, str):
            parts = [part for part in value.split(separator) if part.strip()]
        if parts is None and self._blank(value):
            return [self._filled_label(value)]
        if parts is None:
            raise Rejected(
                "invalid_label",
                f'no list of labels: {_short(value)}; write JSON such as ["a", "b"], or say what '
                "separates them in data.label_separator",
            )
        if any(is_list(part) for part in parts):
            raise Rejected("invalid_label", f"a list in the list of labels: {_short(value)}")
        names = [self._label(part, taken) for part in parts]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise Rejected(
                "invalid_label",
                f"the label {twice!r} stands twice in {_short(value)}: a 0 or 1 for each label is "
                "no list of labels; write the names, or the ids, of those that apply",
            )
        return names

    def _filled_label(self, value: Any) -> str:
        if self._config.missing.label is None:
            raise Rejected("missing_label", f"the label is {value!r}")
        return self._config.missing.label

    def _messages(self, name: str, value: Any, taken: Taken) -> list[dict[str, Any]]:
        if self._is_missing(name, value, taken):
            raise Rejected(f"missing_{name}", f"{name} is {value!r}")
        try:
            conversation = messages.read_messages(
                value, lambda text: self._text("content", text, taken)
            )
            if not conversation:
                raise Rejected(f"missing_{name}", f"{name} is an empty list")
            if name == "messages":
                messages.check_answered(conversation)
        except ValueError as error:
            raise Rejected(f"invalid_{name}", str(error)) from error
        return conversation

    def _list(self, name: str, value: Any) -> list[Any]:
        if isinstance(value, str) and value.strip().startswith("["):
            try:
                value = json.loads(value)
            except (ValueError, RecursionError) as error:
                raise Rejected(f"invalid_{name}", f"not valid JSON: {error}") from error
        if self._blank(value) or (isinstance(value, list) and not value):
            raise Rejected(f"missing_{name}", f"the {name} are {value!r}")
        if not isinstance(value, list):
            raise Rejected(f"invalid_{name}", f"the {name} are no list: {_short(value)}")
        return value

    def _seconds(self, cells: Any, places: dict[str, list[Place]]) -> float:
        if self._time is None:
            return 0.0
        value = cell(cells, places["split.time"][0])
        seconds = seconds_since_epoch(value)
        if seconds is None:
            raise Rejected("invalid_time", f"{_short(value)} is no number and no ISO 8601 time")
        return seconds


def _join(parts: list[Any]) -> Any:
    return "\n\n".join(str(part) for part in parts) if parts else None


def _unchanged(name: str, value: Any) -> Any:
    """A value that only goes along: bytes that no UTF-8 could stand for are refused."""
    if isinstance(value, bytes):
        raise Rejected(f"invalid_{name}", f"{name} holds bytes that are not text")
    if isinstance(value, str):
        try:
            check_characters(value)
        except UnicodeError as error:
            raise Rejected("undecodable", f"{name} is neither UTF-8 nor cp1252") from error
    return value


def _number(name: str, value: Any) -> float:
    """A number, or its text with a decimal point or comma."""
    text = str(value).strip()
    try:
        number = float(text.replace(",", ".") if text.count(",") == 1 else text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or isinstance(value, bool):
        raise Rejected(f"invalid_{name}", f"{name} is no number: {_short(value)}")
    return number


def _match(name: str, value: Any) -> int:
    """Whether two texts belong together, as 0 or 1."""
    if is_null(value) or not str(value).strip():
        raise Rejected(f"missing_{name}", f"the {name} is {value!r}")
    number = {"true": 1.0, "false": 0.0}.get(str(value).strip().lower())
    number = _number(name, value) if number is None else number
    if number not in (0, 1):
        raise Rejected(
            f"invalid_{name}",
            f"the {name} {_short(value)} is neither 0 nor 1; grades are scores: set data.columns: "
            f"{{score: {name}}}",
        )
    return int(number)


def _is_infinite(value: Any) -> bool:
    return isinstance(value, float) and math.isinf(value)


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return messages.joined(value)
    return "" if value is None else json.dumps(value, ensure_ascii=False, default=str)


def _folded(value: Any) -> str:
    return " ".join(_as_text(value).casefold().split())


def hash64(text: str) -> int:
    """The same number for the same text in every process and Python version."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= _SHOWN_CHARACTERS else shown[:_SHOWN_CHARACTERS] + "…"


def rejection(
    *, location: str, row: int, line: int | None, reason: str, detail: str, raw: Any
) -> dict[str, Any]:
    """One line of rejected.jsonl."""
    return {
        "file": location,
        "row": row,
        "line": line,
        "reason": reason,
        "detail": detail,
        "raw": raw,
    }
