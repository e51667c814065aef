"""Several data sets of one split, each in a channel of its own: train-code, train-chat."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from sm_launch.errors import UserInputError
from sm_launch.job.hyperparameters import FIELD, data_set_pattern, split_channels

WEIGHTS, COLUMNS, TEMPLATES = "dataset_weights", "dataset_columns", "dataset_prompt_templates"


def data_set_of(channel: str) -> tuple[str, str] | None:
    """The split and the data set that a channel holds, as training reads its name."""
    match = re.match(data_set_pattern(), channel, re.IGNORECASE)
    if match is None:
        return None
    split = next(s for s, known in split_channels().items() if match[1].lower() in known)
    return split, match[3]


def channels_of(names: Iterable[str], split: str) -> list[str]:
    """Those of the channels that hold rows of a split, all or one data set of it."""
    known = split_channels()[split]
    return [
        name for name in names if name.lower() in known or (data_set_of(name) or "")[:1] == (split,)
    ]


def check_alone(names: Sequence[str], split: str) -> None:
    """Refuse a channel of a whole split beside one of a data set, and two of the same data set.

    Raises:
        UserInputError: naming both.
    """
    of_split = channels_of(names, split)
    sets = {name: told[1] for name in of_split if (told := data_set_of(name)) is not None}
    whole = [name for name in of_split if name not in sets]
    if whole and sets:
        raise UserInputError(
            f"stands beside {', '.join(sets)}: of several data sets each has a name",
            field=f"training.channels.{whole[0]}",
            fix=f"name it {split}-NAME, such as {split}-main",
        )
    if len(whole) > 1:
        raise UserInputError(
            f"{' and '.join(whole)} are both {split} data",
            field="training.channels",
            fix=f"name one of them, put their files into one channel {split}, or name each "
            f"{split}-NAME",
        )
    twins = [name for name, own in sets.items() if list(sets.values()).count(own) > 1]
    if twins:
        raise UserInputError(
            f"{' and '.join(twins)} are both the data set {sets[twins[0]]} of {split}",
            field="training.channels",
            fix="give one of them another name",
        )


def check_data_sets(names: Iterable[str], settings: Mapping[str, object]) -> None:
    """Refuse settings of a data set that no channel holds, bad weights, and one that is missing.

    Args:
        names: the channels.
        settings: the hyperparameters, in which a data set is called as its channel behind the
            split: code, of train-code.

    Raises:
        UserInputError: naming the setting, and the nearest name.
    """
    told = [each for each in map(data_set_of, names) if each is not None]
    training = {name for split, name in told if split == "train"}
    known = {name for _, name in told}
    for setting, usable in ((WEIGHTS, training), (COLUMNS, known), (TEMPLATES, known)):
        for name in as_object(settings.get(setting)):
            if name not in usable:
                raise _unknown(f"{FIELD}.{setting}", name, usable)
    weights = as_object(settings.get(WEIGHTS))
    for name, weight in weights.items():
        number = isinstance(weight, int | float) and not isinstance(weight, bool)
        if not number or not 0 < weight < math.inf:
            raise UserInputError(
                "is no weight",
                field=f"{FIELD}.{WEIGHTS}.{name}",
                value=weight,
                fix="give a number above 0; to leave a data set out, remove its channel",
            )
    left = sorted(training - weights.keys()) if weights else []
    if left:
        raise UserInputError(
            f"has no weight for the data set {', '.join(left)}",
            field=f"{FIELD}.{WEIGHTS}",
            value=weights,
            fix="give each data set a weight, or remove its channel",
        )


def as_object(value: object) -> dict[str, Any]:
    """A hyperparameter that is an object, or JSON of one; {} for what the container refuses."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return {}
    return value if isinstance(value, dict) else {}


def _unknown(field: str, name: str, usable: set[str]) -> UserInputError:
    near = get_close_matches(name, usable, n=1)
    return UserInputError(
        "is no data set of the job" + (f"; did you mean {near[0]!r}?" if near else ""),
        field=field,
        value=name,
        fix=f"use the names behind the split in the channels: {', '.join(sorted(usable))}"
        if usable
        else f"name its channel train-{name}, or remove the setting",
    )
