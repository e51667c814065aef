"""A raw row becomes a clean example, or a rejection with its reason."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, NamedTuple

from sm_launch.data.chunks import Chunk, column_index, is_null
from sm_launch.data.config import Column, DataConfig
from sm_launch.data.filters import LanguageFilter, TokenFilter
from sm_launch.data.labels import LabelReader
from sm_launch.data.near import signature
from sm_launch.data.steps import build, decode_escaped_bytes
from sm_launch.data.times import seconds_since_epoch

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ROLES = ("system", "user", "assistant", "tool")
_SHOWN_CHARACTERS = 60


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
    """64-bit hash of the text without case and white space: equal texts, equal keys."""
    label: str | None
    characters: int
    group: int = 0
    time: float = 0.0
    signature: NDArray[np.uint16] | None = None
    """Only where near duplicates are looked for."""


class RowCleaner:
    """Turns rows into examples, as a `DataConfig` says. Holds no state between rows.

    Args:
        config: the `data` section of job.yaml.
    """

    def __init__(self, config: DataConfig) -> None:
        self._config = config
        self._clean = build(config.effective_steps, config.stem_language, config.lemma_language)
        self._missing = frozenset(config.missing.values)
        self._longest_missing = max(map(len, self._missing), default=0)
        self._labels = LabelReader(config)
        self._language = LanguageFilter(config.language) if config.language else None
        self._tokens = TokenFilter(config.tokens) if config.tokens else None
        self._columns = self._needed_columns()
        self._kept = [name for name in self._columns if name.startswith("columns.keep.")]
        self._groups = config.split.group is not None
        self._sorts = config.split.time is not None
        self._signs = config.duplicates.near is not None
        limits = config.length
        self._least, self._most = limits.min_characters, limits.max_characters

    def __reduce__(self) -> tuple[Any, ...]:
        return (RowCleaner, (self._config,))

    def _needed_columns(self) -> dict[str, Column]:
        columns, split = self._config.columns, self._config.split
        fields: dict[str, tuple[str, ...]] = {
            "text-classification": ("text", "label"),
            "prompt-completion": ("prompt", "completion"),
            "messages": ("messages",),
            "text": ("text",),
        }
        needed = {f"columns.{name}": getattr(columns, name) for name in fields[self._config.task]}
        needed |= {f"columns.keep.{index}": column for index, column in enumerate(columns.keep)}
        for name, column in (("split.group", split.group), ("split.time", split.time)):
            if column is not None:
                needed[name] = column
        return needed

    @property
    def allowed_labels(self) -> list[str] | None:
        """In the order of the configuration; None: whatever the data has."""
        return self._labels.allowed

    @property
    def output_names(self) -> list[str]:
        """Columns of the channels."""
        names = [name.partition(".")[2] for name in self._columns if name.startswith("columns.")]
        kept = [str(column) for column in self._config.columns.keep]
        return names[: len(names) - len(kept)] + kept

    def check_columns(self, names: list[str]) -> None:
        """Fail early where a column is missing.

        Raises:
            UserInputError: naming the column and the nearest one.
        """
        for field, column in self._columns.items():
            column_index(names, column, field=f"data.{field}")

    def places(self, chunk: Chunk) -> dict[str, int | None]:
        """Where each needed column stands in this chunk; None: no row of it has the key."""
        names = chunk.names
        return {
            field: column
            if isinstance(column, int)
            else names.index(column)
            if column in names
            else None
            for field, column in self._columns.items()
        }

    def clean(self, cells: Any, places: dict[str, int | None]) -> Example:
        """Clean one row.

        Args:
            cells: the row as the reader saw it.
            places: from `places`, of the row's chunk.

        Raises:
            Rejected: the row is no use.
        """
        row = {field: None if at is None else cells[at] for field, at in places.items()}
        parts, key_text, label = self._content(row)
        folded = " ".join(key_text.casefold().split())
        return Example(
            values=(*parts, *[row[field] for field in self._kept]) if self._kept else parts,
            key=hash64(folded),
            label=label,
            characters=len(key_text),
            group=hash64(str(row["split.group"])) if self._groups else 0,
            time=self._time(row["split.time"]) if self._sorts else 0.0,
            signature=signature(folded) if self._signs else None,
        )

    def _content(self, row: dict[str, Any]) -> tuple[tuple[Any, ...], str, str | None]:
        """Output values, the text that makes the row unique, and the label."""
        task = self._config.task
        if task == "text-classification":
            text = self._limited(self._text("text", row["columns.text"]))
            label = self._label(row["columns.label"])
            return (text, label), text, label
        if task == "text":
            text = self._limited(self._text("text", row["columns.text"]))
            return (text,), text, None
        if task == "prompt-completion":
            prompt = self._text("prompt", row["columns.prompt"])
            completion = self._text("completion", row["columns.completion"])
            both = self._limited(f"{prompt}\n{completion}", may_truncate=False)
            return (prompt, completion), both, None
        messages = self._messages(row["columns.messages"])
        joined = "\n".join(f"{message['role']}: {message['content']}" for message in messages)
        return (messages,), self._limited(joined, may_truncate=False), None

    def _is_missing(self, value: Any) -> bool:
        if isinstance(value, str):
            bare = value.strip()
            return len(bare) <= self._longest_missing and bare.casefold() in self._missing
        return is_null(value)

    def _text(self, name: str, value: Any) -> str:
        if self._is_missing(value):
            fill = self._config.missing.text
            if fill is None or name == "completion":
                raise Rejected(f"missing_{name}", f"the {name} is {value!r}")
            value = fill
        if isinstance(value, list | dict | bytes):
            raise Rejected(f"invalid_{name}", f"the {name} is a {type(value).__name__}")
        try:
            text = self._clean(decode_escaped_bytes(str(value)))
        except UnicodeError as error:
            raise Rejected("undecodable", f"the {name} is neither UTF-8 nor cp1252") from error
        if not text:
            raise Rejected(f"missing_{name}", f"nothing of the {name} is left after cleaning")
        return text

    def _limited(self, text: str, *, may_truncate: bool = True) -> str:
        if len(text) < self._least:
            raise Rejected("too_short", f"{len(text)} of {self._least} characters")
        if len(text) > self._most:
            if self._config.length.too_long == "drop" or not may_truncate:
                raise Rejected("too_long", f"{len(text)} of at most {self._most} characters")
            text = text[: self._most].rstrip()
        if self._language is not None and (problem := self._language.problem(text)):
            raise Rejected("other_language", problem)
        if self._tokens is not None:
            text, count = self._tokens.apply(text)
            if found := self._tokens.problem(count):
                raise Rejected(*found)
        return text

    def _label(self, value: Any) -> str:
        if not is_null(value):
            # Before the test for missing: "none" may be a label of this data set.
            label = self._labels.read(value)
            if label is not None and (self._labels.allowed or not self._is_missing(value)):
                return label
        if not self._is_missing(value):
            raise Rejected("unknown_label", f"the label {_short(value)} is not among those allowed")
        if self._config.missing.label is None:
            raise Rejected("missing_label", f"the label is {value!r}")
        return self._config.missing.label

    def _messages(self, value: Any) -> list[dict[str, str]]:
        if self._is_missing(value):
            raise Rejected("missing_messages", f"messages is {value!r}")
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except ValueError as error:
                raise Rejected("invalid_messages", f"not valid JSON: {error}") from error
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise Rejected("invalid_messages", "not a list of {role, content}")
        messages = [self._message(item, index) for index, item in enumerate(value)]
        roles = [message["role"] for message in messages]
        if "user" not in roles or not roles or roles[-1] != "assistant":
            raise Rejected("invalid_messages", f"needs a user and ends by assistant: {roles}")
        return messages

    def _message(self, item: dict[str, Any], index: int) -> dict[str, str]:
        role, content = item.get("role"), item.get("content")
        if role not in ROLES:
            raise Rejected("invalid_messages", f"message {index}: role {_short(role)} is unknown")
        if role == "system" and index:
            raise Rejected("invalid_messages", f"message {index}: system must come first")
        if not isinstance(content, str) or not content.strip():
            raise Rejected("invalid_messages", f"message {index}: content {_short(content)}")
        return {"role": role, "content": self._text("content", content)}

    def _time(self, value: Any) -> float:
        seconds = seconds_since_epoch(value)
        if seconds is None:
            raise Rejected("invalid_time", f"{_short(value)} is no number and no ISO 8601 time")
        return seconds


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
