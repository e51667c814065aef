"""Cells of labels and tags, made into the names that the model learns, or set aside."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from sm_launch.data.labels import LabelReader, as_list, is_list, read_mark
from sm_launch.data.missing import MissingWords, Taken, is_blank
from sm_launch.data.rejected import Rejected, short
from sm_launch.job.data import Column, DataConfig


class LabelCells:
    """Reads them as a `DataConfig` says; each method raises Rejected for a cell that is no use.

    Args:
        config: the `data` section of job.yaml.
        missing: tells missing values.
    """

    def __init__(self, config: DataConfig, missing: MissingWords) -> None:
        self._config = config
        self._missing = missing
        self.reader = LabelReader(config)

    def one(self, value: Any, taken: Taken) -> str:
        """The label of a text that has one."""
        if is_blank(value):
            return self._filled(value)
        if isinstance(value, bytes) or is_infinite(value):
            raise Rejected("invalid_label", f"the label is {short(value)}")
        try:
            label = self.reader.read(value)
        except UnicodeError as error:
            raise Rejected("undecodable", "the label is neither UTF-8 nor cp1252") from error
        if is_list(value) and (label is None or self.reader.allowed is None):
            raise Rejected(
                "invalid_label",
                f"several labels in one cell, and a classifier learns one: {short(value)}; "
                "several a text need training.hyperparameters.problem_type: "
                "multi_label_classification",
            )
        if label:
            return label
        if self.reader.allowed is not None and self._missing.is_missing("label", value, taken):
            return self._filled(value)
        if not label and self.reader.allowed is None:
            return self._filled(value)
        raise Rejected("unknown_label", f"the label {short(value)} is not among those allowed")

    def several(self, value: Any, taken: Taken) -> list[str]:
        """The labels of a text that may have any number; an empty list is one without any."""
        parts = as_list(value)
        separator = self._config.label_separator
        if parts is None and separator is not None and isinstance(value, str):
            parts = [part for part in value.split(separator) if part.strip()]
        if parts is None and is_blank(value):
            return [self._filled(value)]
        if parts is None:
            raise Rejected(
                "invalid_label",
                f'no list of labels: {short(value)}; write JSON such as ["a", "b"], or say what '
                "separates them in data.label_separator",
            )
        if any(is_list(part) for part in parts):
            raise Rejected("invalid_label", f"a list in the list of labels: {short(value)}")
        names = [self.one(part, taken) for part in parts]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise Rejected(
                "invalid_label",
                f"the label {twice!r} stands twice in {short(value)}: a 0 or 1 for each label is "
                "no list of labels; write the names, or the ids, of those that apply",
            )
        return names

    def marked(self, columns: Sequence[Column], cells: list[Any], taken: Taken) -> list[str]:
        """The labels whose columns hold a 1, where each has a column of its own."""
        if all(map(is_blank, cells)):
            return [self._filled(cells[0])]
        marks = [read_mark(cell) for cell in cells]
        wrong = next((at for at, mark in enumerate(marks) if mark is None), None)
        if wrong is not None:
            raise Rejected(
                "invalid_label", f"{columns[wrong]} is neither 0 nor 1: {short(cells[wrong])}"
            )
        marked = [column for column, mark in zip(columns, marks, strict=True) if mark]
        return self.several(marked, taken)

    def tags(self, tags: list[Any]) -> list[Any]:
        """Tags by the names that `label_map` and `labels` give them."""
        empty = next((at for at, tag in enumerate(tags) if is_blank(tag)), None)
        if empty is not None:
            raise Rejected("invalid_tags", f"word {empty + 1} has no tag")
        if self.reader.allowed is None:
            return tags
        names = [self.reader.read(tag) for tag in tags]
        if None in names:
            unknown = short(tags[names.index(None)])
            raise Rejected("unknown_tag", f"the tag {unknown} is not among those allowed")
        return names

    def _filled(self, value: Any) -> str:
        if self._config.missing.label is None:
            raise Rejected("missing_label", f"the label is {value!r}")
        return self._config.missing.label


def is_infinite(value: Any) -> bool:
    """Whether a cell is a number without an end, which nothing can learn."""
    return isinstance(value, float) and math.isinf(value)
