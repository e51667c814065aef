"""What a classifier's label cell holds: one class, several labels, or a number to predict."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sm_train.data.cells import nested, text_of
from sm_train.data.class_ids import ClassId
from sm_train.errors import UserError

if TYPE_CHECKING:
    from sm_train.settings.settings import Config

_WHOLE_FLOAT = re.compile(r"-?\d+\.0+")
_SHOWN = 60
MULTI_LABEL = "multi_label_classification"
REGRESSION = "regression"


def number(value: Any, column: str) -> float:
    """The number that a regression predicts. Raises ValueError for anything else."""
    try:
        parsed = float("" if isinstance(value, bool) or value is None else value)
    except (ValueError, TypeError):
        parsed = math.nan
    if not math.isfinite(parsed):
        raise ValueError(f"column {column} holds no number")
    return parsed


def one(value: Any, column: str, labels: Sequence[str] | None) -> str:
    """The name of the row's class. Raises ValueError where there is none, or several."""
    known = labels is not None and isinstance(value, str) and value.strip() in labels
    if not known and _is_list(value):
        raise ValueError(
            f"column {column} holds a list of labels; set problem_type to {MULTI_LABEL} to train "
            "a model that gives a text several labels"
        )
    return _name(value, column, labels)


def several(value: Any, column: str, labels: Sequence[str] | None) -> list[str]:
    """The names of the row's labels, in their order; an empty list is a text without any.

    Raises ValueError for a cell that is no list, or in which a label stands twice.
    """
    if isinstance(value, str) and value.strip():
        try:
            value = nested(value)
        except ValueError:
            shown = value if len(value) <= _SHOWN else value[:_SHOWN] + "…"
            raise ValueError(
                f"column {column} holds text that is no list: {shown!r}; write it as JSON, such "
                'as ["a", "b"] (data.label_separator of job.yaml makes lists of such text)'
            ) from None
    if value is None or isinstance(value, str):
        raise ValueError(f"no list of labels in column {column}; [] is a text without any")
    if not isinstance(value, list):
        raise ValueError(f"column {column} holds no list of labels: {str(value)[:_SHOWN]}")
    names = [_name(item, column, labels) for item in value]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(
            f"the label {twice!r} stands twice in one cell of column {column}; a 0 or 1 for each "
            "label is no list of labels: write the names, or the ids, of those that apply"
        )
    return names


def _is_list(value: Any) -> bool:
    if not isinstance(value, str):
        return isinstance(value, list | dict)
    if not value.lstrip().startswith("["):
        return False
    try:
        return isinstance(nested(value), list)
    except ValueError:
        return False


def _name(value: Any, column: str, labels: Sequence[str] | None) -> str:
    """A class's name; a number that is no name counts in the list of labels, as in Hub data."""
    if isinstance(value, list | dict):
        raise ValueError(f"column {column} holds a list in a list of labels")
    if value is None or not str(value).strip():
        raise ValueError(f"no label in column {column}")
    if isinstance(value, ClassId) and (not labels or value.name in labels):
        return value.name
    name = str(text_of(value)).strip()
    if labels and name in labels:
        return name
    if isinstance(value, float) and not value.is_integer():
        raise ValueError(
            "the label is a fraction, a measure and no class; set problem_type to regression to "
            "predict numbers, or name all classes in labels"
        )
    if _WHOLE_FLOAT.fullmatch(name):
        name = name.partition(".")[0]  # readers turn ids with gaps into floats
    if not labels or name in labels:
        return name
    if name.isdecimal() and int(name) < len(labels):
        return labels[int(name)]
    raise ValueError(f"unknown label {name!r}; labels are {list(labels)}")


def names_in(label: Any) -> list[str]:
    """The names of a cleaned row's label: one, or those of a list."""
    return label if isinstance(label, list) else [label]


def check_streamed_classes(config: Config[Any], classes: bool = True) -> None:
    """Refuse a stream where the classes, or how many rows they have, are not known without it.

    Args:
        config: its `own` arguments have labels and class_weights.
        classes: whether the job learns any.
    """
    own = config.own
    if not config.job.streaming or not classes:
        return
    if not own.labels:
        raise UserError(
            "is wanted beside streaming: rows that are read while training cannot be looked "
            "through for their classes before it",
            field="labels",
            value=own.labels,
            fix="name all classes, or remove streaming",
        )
    if isinstance(own.class_weights, str):
        raise UserError(
            "counts the rows of each class before the first step, and a stream reads them later",
            field="class_weights",
            value=own.class_weights,
            fix="give {class: weight}, or remove streaming",
        )
