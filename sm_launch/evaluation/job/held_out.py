"""The rows that a model has not learnt: those that are named, or the job's own test channels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sm_launch import evaluation
from sm_launch.errors import UserInputError
from sm_launch.job.config import JobConfig
from sm_launch.target.data_sets import COLUMNS, as_object, channels_of, data_set_of

DATA_SET = "data_set"
"""Column that says of which data set a row is, where there are several."""


@dataclass(frozen=True)
class HeldOut:
    """What is measured on.

    Attributes:
        location: as the report names it.
        rows: of all data sets, in the order of their channels' names, as training reads them.
        sha256: of their files, as `eval_results.json` names the test rows.
        slices: columns by which the rows are told apart.
    """

    location: str
    rows: list[dict[str, Any]]
    sha256: str
    slices: tuple[str, ...] = ()


def locations(config: JobConfig, data: str | None) -> dict[str, str]:
    """Name of each data set, empty where there is one, to the path or URI of its rows.

    Args:
        config: names rows in `evaluation.data`, or test channels, or has prepared one.
        data: comes before all of these.

    Raises:
        UserInputError: there are none.
    """
    if named := data or config.evaluation.data:
        return {"": named if data or "://" in named else str(config.path(named))}
    channels = config.training.channels
    own = sorted(channels_of(channels, "test"))
    if own:
        sets = {(data_set_of(name) or ("", ""))[1]: channels[name] for name in own}
        return {
            name: place if "://" in place else str(config.path(place))
            for name, place in sets.items()
        }
    prepared = config.prepared_path / "test"
    if not prepared.is_dir():
        raise UserInputError(
            "there is no held-out data",
            field="evaluation.data",
            value=str(prepared),
            fix="run `sm-launch data prepare` first, give the job a channel test, or name a file "
            "with --data",
        )
    return {"": str(prepared)}


def read(config: JobConfig, data: str | None, fetch: Callable[[str], Path]) -> HeldOut:
    """The rows of all data sets; columns have the names by which the model's job knows them.

    Args:
        config: see `locations`.
        data: likewise.
        fetch: brings files to this machine.

    Raises:
        UserInputError: there are none, or they cannot be read.
    """
    places = locations(config, data)
    sources = {name: fetch(place) for name, place in places.items()}
    files = [file for source in sources.values() for file in evaluation.data_files(source)]
    rows = []
    for name, source in sources.items():
        renamed = _renamed(config, name)
        told = {DATA_SET: name} if name else {}
        for row in evaluation.read_rows(source):
            rows.append(told | {renamed.get(column, column): row[column] for column in row})
    return HeldOut(
        ", ".join(places.values()),
        rows,
        evaluation.files_sha256(files),
        (DATA_SET,) if any(places) else (),
    )


def _renamed(config: JobConfig, data_set: str) -> Mapping[str, str]:
    """A data set's own columns to those of all: its `dataset_columns`, and `columns` backwards."""
    given = config.training.hyperparameters
    own = as_object(as_object(given.get(COLUMNS)).get(data_set))
    common = {new: old for old, new in as_object(given.get("columns")).items()}
    return {str(column): str(common.get(new, new)) for column, new in own.items()}
