"""Several data sets of one split: what each of them is read by, and which of their rows are drawn.

Their weights mean what they do in `datasets.interleave_datasets`, which draws them.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sm_train.contract import data_set_of
from sm_train.data.prompts import check_prompt_template
from sm_train.errors import UserError
from sm_train.rows import SPLITS, Origin

if TYPE_CHECKING:
    from sm_train.rows import Data, Rows
    from sm_train.settings.settings import Config

FIRST, ALL, ONCE = "first_exhausted", "all_exhausted", "all_exhausted_without_replacement"
_MOST_ROWS = 100_000_000  # of an epoch: their numbers alone would fill a machine's memory
_SEED = 42  # transformers' own default
_BY_NAME = ("dataset_weights", "dataset_columns", "dataset_prompt_templates")


def check_mixing(config: Config) -> None:
    """Refuse what needs no look at the channels. Raises UserError naming field and value."""
    job = config.job
    for name, weight in (job.dataset_weights or {}).items():
        number = isinstance(weight, int | float) and not isinstance(weight, bool)
        if not number or not math.isfinite(weight) or weight <= 0:
            raise UserError(
                "is no weight",
                field=f"dataset_weights.{name}",
                value=weight,
                fix="give a number above 0; to leave a data set out, remove its channel",
            )
    for name, columns in (job.dataset_columns or {}).items():
        if not isinstance(columns, dict):
            raise UserError(
                "is no renaming of columns",
                field=f"dataset_columns.{name}",
                value=columns,
                fix='write {"name in the data": "name the method wants"}',
            )
    for name, template in (job.dataset_prompt_templates or {}).items():
        if template is not None and not isinstance(template, str):
            raise UserError(
                "is no text",
                field=f"dataset_prompt_templates.{name}",
                value=template,
                fix='write text with columns in braces, such as "{instruction}"',
            )
        check_prompt_template(_with(config, name))
    if job.stopping_strategy is not None and not job.dataset_weights:
        raise UserError(
            "says when drawing by weights ends, and there are none",
            field="stopping_strategy",
            value=job.stopping_strategy,
            fix="set dataset_weights, or remove it",
        )


def check_names(config: Config, names: Mapping[str, Iterable[str]]) -> None:
    """Refuse settings of a data set that is not there, and weights that leave one out.

    Args:
        config: the job's settings.
        names: of the data sets of each split.

    Raises:
        UserError: naming the setting, the name and the nearest one.
    """
    training = sorted(name for name in names.get("train", ()) if name)
    known = {name for of_split in names.values() for name in of_split if name}
    for field in _BY_NAME:
        usable = set(training) if field == "dataset_weights" else known
        for name in getattr(config.job, field) or {}:
            if name not in usable:
                raise _unknown(field, name, usable)
    weights = config.job.dataset_weights
    for name in training if weights else ():
        if name not in (weights or {}):
            raise UserError(
                f"has no weight for the channel train-{name}",
                field="dataset_weights",
                value=weights,
                fix=f"give {name} a weight, or remove its channel",
            )


def _unknown(field: str, name: str, known: set[str]) -> UserError:
    if not known:
        return UserError(
            "names a data set, and no channel holds one of several",
            field=field,
            value=name,
            fix=f"name its channel train-{name}, or remove the setting "
            "(a list `datasets` has `fraction` for each)",
        )
    near = difflib.get_close_matches(name, known, n=1)
    there = ", ".join(sorted(known))
    return UserError(
        "is no data set of the job" + (f"; did you mean {near[0]}?" if near else ""),
        field=field,
        value=name,
        fix=f"use the names behind the split in the channels: {there}",
    )


def config_of(config: Config, name: str) -> Config:
    """The settings by which one of several data sets is read; "" is the only one."""
    return _with(config, name) if name else config


def _with(config: Config, name: str) -> Config:
    job = config.job
    columns = {**job.columns, **(job.dataset_columns or {}).get(name, {})}
    template = (job.dataset_prompt_templates or {}).get(name, job.prompt_template)
    return replace(config, job=replace(job, columns=columns, prompt_template=template))


@dataclass(frozen=True)
class Mixture:
    """Which rows of several data sets an epoch has: numbers of all their rows in a sequence."""

    order: list[int]
    notes: list[str]


def mix(sizes: Mapping[str, int], config: Config) -> Mixture:
    """The rows of an epoch of the train channels.

    Args:
        sizes: of each data set, by its name, the number of its rows, which lie in this order.
        config: the job's settings.

    Raises:
        UserError: an epoch would be too long.
    """
    given = config.job.dataset_weights
    if not given:
        order = list(range(sum(sizes.values())))
        return Mixture(order, [*_lines(sizes, {}, order, config)])
    strategy = config.job.stopping_strategy or FIRST
    total = math.fsum(given[name] for name in sizes)
    shares = {name: given[name] / total for name in sizes}
    if strategy == ALL:
        _check_length(sizes, shares)
    order = drawn(list(sizes.values()), list(shares.values()), data_seed(config), strategy)
    return Mixture(order, [*_lines(sizes, shares, order, config)])


def data_seed(config: Config) -> int:
    """By which rows are drawn: data_seed, else seed."""
    training: Mapping[str, Any] = config.training
    given = (training.get(name) for name in ("data_seed", "seed"))
    return next((int(seed) for seed in given if seed is not None), _SEED)


def drawn(sizes: Sequence[int], shares: Sequence[float], seed: int, strategy: str) -> list[int]:
    """What `datasets.interleave_datasets` makes of data sets that hold their rows' numbers."""
    from datasets import Dataset, interleave_datasets

    starts = [sum(sizes[:place]) for place in range(len(sizes))]
    numbered = [
        Dataset.from_dict({"row": range(start, start + size)})
        for start, size in zip(starts, sizes, strict=True)
    ]
    mixed = interleave_datasets(
        numbered,
        probabilities=list(shares),
        seed=seed,
        stopping_strategy=strategy,
    )
    return [int(row) for row in mixed[:]["row"]]


def _check_length(sizes: Mapping[str, int], shares: Mapping[str, float]) -> None:
    rows, name = max((sizes[name] / shares[name], name) for name in sizes)
    if rows > _MOST_ROWS:
        raise UserError(
            f"makes an epoch of about {rows:.3g} rows, until each of {name} has come",
            field="dataset_weights",
            value={name: shares[name]},
            fix=f"raise the weight of {name}, or set stopping_strategy to {FIRST}",
        )


def _lines(
    sizes: Mapping[str, int], shares: Mapping[str, float], order: Sequence[int], config: Config
) -> Iterable[str]:
    """What the log says of each data set: rows, share, how often they come, what never does."""
    start = 0
    unread = [True] * sum(sizes.values())
    for row in order:
        unread[row] = False
    for name, size in sizes.items():
        own = range(start, start + size)
        start += size
        count = sum(1 for row in order if row in own)
        weight = f", weight {shares[name]:.4g}" if shares else ""
        line = (
            f"data set {name}: {size} rows{weight}: {count} of the {len(order)} rows of an epoch "
            f"({count / len(order):.1%}), each of its rows {count / size:.3g} times an epoch"
            f"{_in_all(config, count / size)}"
        )
        never = sum(unread[own.start : own.stop])
        yield f"{line}; {never} of its rows are never read" if never else line


def _in_all(config: Config, times: float) -> str:
    """How often in the whole job, where the settings alone tell how many epochs it has."""
    training: Mapping[str, Any] = config.training
    epochs = training.get("num_train_epochs")
    if epochs in (None, 1) or int(training.get("max_steps") or -1) > 0:
        return ""
    return f", {times * float(epochs):.3g} times in {float(epochs):g} epochs"


def rows_apart(data: Data, split: str) -> dict[str, list[int]]:
    """The places of a split's rows by data set; "" for rows of the only one."""
    places: dict[str, list[int]] = {}
    names: dict[str, str] = {"": ""}
    count = len(data.split(split) or ())
    origins = data.origins.get(split, [])
    if len(origins) != count:  # rows that were chosen otherwise
        origins = [Origin("", "", 0)] * count
    for place, origin in enumerate(origins):
        if origin.channel not in names:
            names[origin.channel] = (data_set_of(origin.channel) or ("", ""))[1]
        places.setdefault(names[origin.channel], []).append(place)
    return places


def by_data_set(data: Data) -> dict[str, Rows]:
    """The rows of all splits by data set; "" for those of the only one."""
    sets: dict[str, Rows] = {}
    for split in SPLITS:
        rows = data.split(split) or []
        for name, places in rows_apart(data, split).items():
            sets.setdefault(name, []).extend(rows[place] for place in places)
    return sets
