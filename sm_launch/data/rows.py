"""A raw row becomes a clean example, or a rejection with its reason."""

from __future__ import annotations

import ast
import hashlib
import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from sm_launch.data import messages, shapes
from sm_launch.data.chunks import Chunk, cell, find_column, is_null
from sm_launch.data.filters import LanguageFilter, TokenFilter
from sm_launch.data.label_cells import LabelCells, is_infinite
from sm_launch.data.labels import Label
from sm_launch.data.missing import ANSWERS, MissingWords, Taken, is_blank
from sm_launch.data.near import signature
from sm_launch.data.rejected import Rejected, short
from sm_launch.data.shapes import Layout
from sm_launch.data.steps import build, check_characters
from sm_launch.data.times import seconds_since_epoch
from sm_launch.data.unfold import folded
from sm_launch.job.data import Column, DataConfig, OutputFormat
from sm_launch.job.tasks import Kind

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


Place = tuple[int, tuple[str, ...]] | None


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
        self._missing = MissingWords(config)
        self._labels = LabelCells(config, self._missing)
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
        """In the order of the configuration; None: whatever the data has, or no classes."""
        named = self.layout.kinds.get("label") in ("label", "labels")
        return self._labels.reader.allowed if named else None

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
        used |= folded(self._names, self._config)
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
        return self.allowed_labels is None and label.casefold() in self._missing.spellings

    def _value(self, name: str, kind: Kind, raw: list[Any], taken: Taken) -> Any:
        if kind == "labels" and isinstance(self._config.columns.label, list):
            return self._labels.marked(self.layout.columns["label"], raw, taken)
        value = raw[0] if len(raw) == 1 else _join([part for part in raw if not is_blank(part)])
        if kind == "label":
            return self._labels.one(value, taken)
        if kind == "labels":
            return self._labels.several(value, taken)
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
            items = self._list(name, value)
            return self._labels.tags(items) if name == "tags" else items
        if name in self.layout.required and self._missing.is_missing(name, value, taken):
            raise Rejected(f"missing_{name}", f"the {name} is {value!r}")
        if kind == "number":
            return _number(name, self._labels.reader.renamed(value) if name == "label" else value)
        if kind == "match":
            return _match(name, value)
        return _answers(value) if kind == "answers" else _unchanged(name, value)

    def _text(self, name: str, value: Any, taken: Taken) -> str:
        if self._missing.is_missing(name, value, taken):
            fill = self._config.missing.text
            if fill is None or name in ANSWERS:
                raise Rejected(f"missing_{name}", f"the {name} is {value!r}")
            value = fill
        if isinstance(value, list | dict | bytes | tuple) or is_infinite(value):
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

    def _messages(self, name: str, value: Any, taken: Taken) -> list[dict[str, Any]]:
        if self._missing.is_missing(name, value, taken):
            raise Rejected(f"missing_{name}", f"{name} is {value!r}")
        try:
            conversation = messages.read_messages(
                value,
                lambda text: self._text("content", text, taken),
                whole=name == "messages",
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
        if is_blank(value) or (isinstance(value, list) and not value):
            raise Rejected(f"missing_{name}", f"the {name} are {value!r}")
        if not isinstance(value, list):
            raise Rejected(
                f"invalid_{name}",
                f"the {name} are no list: {short(value)}; a row is a whole sentence (data.format: "
                "conll reads files with a word on each line)",
            )
        return value

    def _seconds(self, cells: Any, places: dict[str, list[Place]]) -> float:
        if self._time is None:
            return 0.0
        value = cell(cells, places["split.time"][0])
        seconds = seconds_since_epoch(value)
        if seconds is None:
            raise Rejected("invalid_time", f"{short(value)} is no number and no ISO 8601 time")
        return seconds


def _join(parts: list[Any]) -> Any:
    return "\n\n".join(str(part) for part in parts) if parts else None


def _answers(value: Any) -> Any:
    """Answers to a question as training reads them: texts, or objects that hold one.

    Raises:
        Rejected: an object without a text, such as NewsQA's ranges of characters.
    """
    held = value
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            held = ast.literal_eval(value) if "'" in value else json.loads(value)
        except (ValueError, SyntaxError, RecursionError):
            return _unchanged("answers", value)  # a text that begins so
    several = held if isinstance(held, list) else [held]
    if any(isinstance(each, dict) and "text" not in each for each in several):
        raise Rejected("invalid_answers", f"the answers hold no text: {short(value)}")
    return _unchanged("answers", value)


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
        raise Rejected(f"invalid_{name}", f"{name} is no number: {short(value)}")
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
            f"the {name} {short(value)} is neither 0 nor 1; grades are scores: set data.columns: "
            f"{{score: {name}}}",
        )
    return int(number)


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
