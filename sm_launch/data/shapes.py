"""What a row of each task is: the columns it needs, those it may have, and what they hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sm_launch.data.chunks import column_index, find_column
from sm_launch.errors import UserInputError
from sm_launch.job.data import Column, DataConfig
from sm_launch.job.tasks import TASKS, Kind, Shape

_PLACES = ("ab", "ba", "01", "10", "12", "21")
_VOTES = ("labels", "label", "preference", "preferred", "better_response_id", "safer_response_id")
"""Columns that say which of two answers is the better one: SHP's, PKU-SafeRLHF's."""
_OPTIONAL_KINDS: dict[str, Kind] = {"prompt": "turn", "score": "number", "label": "match",
                                    "answers": "answers"}  # fmt: skip


@dataclass(frozen=True)
class Layout:
    """Which columns of a data set are read, and under what names they are written."""

    kinds: dict[str, Kind]
    """Output name to what the column holds, in the order of the output."""
    columns: dict[str, tuple[Column, ...]]
    """Output name to the columns it is made of: several are joined."""
    key: tuple[str, ...]
    """Output names that say whether two rows are equal."""
    required: tuple[str, ...]


def lay_out(config: DataConfig, names: Sequence[str]) -> Layout:
    """Choose the shape that a data set with these columns has.

    Args:
        config: task and columns.
        names: all columns of the files.

    Raises:
        UserInputError: a column is missing; the nearest one is suggested.
    """
    shape = _choose(config, names)
    kinds: dict[str, Kind] = dict(shape.required)
    _refuse_images(config, names, kinds)
    if "text" in kinds and "label" in kinds and config.columns.text_pair is not None:
        kinds = {"text": "text", "text_pair": "text", "label": kinds["label"]}
    _refuse_votes(config, names, kinds)
    required = tuple(kinds)
    for name in shape.optional:
        column = _wanted(config, name)[0]
        taken = column in {each for kind in kinds for each in _wanted(config, kind)}
        if name not in kinds and not taken and find_column(names, column) is not None:
            graded = name == "label" and "score" in kinds
            kinds[name] = "value" if graded else _OPTIONAL_KINDS.get(name, "value")
    if "positive" in kinds:
        kinds |= {name: "text" for name in sorted(names) if name.startswith("negative")}
        if find_column(names, config.columns.negative) is not None:
            kinds["negative"] = "text"
    columns = {name: _wanted(config, name) for name in kinds}
    used = {column for several in columns.values() for column in several}
    kept = [column for column in config.columns.keep if column not in used]
    if shape.open:
        kept += [n for n in names if n and n not in used and n not in kept and n not in kinds]
    key = tuple(
        name
        for name, kind in kinds.items()
        if name in required and kind not in ("label", "labels", "number")
    )
    key += ("prompt",) if "prompt" in kinds and "prompt" not in key else ()
    pair = config.pair_column
    for column in kept:
        kinds[str(column)] = "text" if column == pair else "value"
        columns[str(column)] = (column,)
        if column == pair or (shape.open and str(column).lower() not in ("id", "idx", "index")):
            key += (str(column),)
    return Layout(kinds, columns, key, required)


def _refuse_images(config: DataConfig, names: Sequence[str], kinds: dict[str, Kind]) -> None:
    """Conversations about images would lose them: their files are not cleaned, split or copied."""
    column = next((n for n in names if n.partition(".")[0] in ("images", "image")), None)
    if column is None or not {"turn", "messages"}.intersection(kinds.values()):
        return
    raise UserInputError(
        "the rows have images, which are not prepared",
        field="data",
        value=column,
        fix="write the channels yourself, each a folder with its images beside the rows, and give "
        "them as training.channels instead of data; or take the column out",
    )


def _refuse_votes(config: DataConfig, names: Sequence[str], kinds: dict[str, Kind]) -> None:
    """Answers in two places, of which a third column says row by row which is preferred: SHP's
    human_ref_A, human_ref_B and labels. To take one place for the preferred one is wrong in every
    second row."""
    chosen, rejected = (str(_wanted(config, name)[0]) for name in ("chosen", "rejected"))
    places = (chosen[-1:] + rejected[-1:]).lower()
    if "chosen" not in kinds or chosen[:-1] != rejected[:-1] or places not in _PLACES:
        return
    votes = [name for name in names if name in _VOTES or name.startswith("winner")]
    if votes:
        raise UserInputError(
            f"is an answer by its place; which of both is preferred stands in {votes[0]}",
            field="data.columns.chosen",
            value=chosen,
            fix=f"write columns chosen and rejected, in each row as {votes[0]} says",
        )


def check_columns(
    layout: Layout, config: DataConfig, names: list[str], location: str, *, is_table: bool
) -> None:
    """Fail early where a file lacks a column that every row needs.

    Raises:
        UserInputError: naming the file, the column and the nearest one.
    """
    for name in layout.required:
        for column in layout.columns[name]:
            column_index(
                names, column, field=f"data.columns.{name}", location=location, is_table=is_table
            )
    for at, column in enumerate(config.columns.keep):
        column_index(
            names, column, field=f"data.columns.keep.{at}", location=location, is_table=is_table
        )
    for field, one in (("group", config.split.group), ("time", config.split.time)):
        if one is not None:
            column_index(
                names, one, field=f"data.split.{field}", location=location, is_table=is_table
            )


def _wanted(config: DataConfig, name: str) -> tuple[Column, ...]:
    column = getattr(config.columns, name, name)
    if column is None:
        return (name,)
    return tuple(column) if isinstance(column, list) else (column,)


def _choose(config: DataConfig, names: Sequence[str]) -> Shape:
    """The shape whose columns job.yaml names, else the first that the file can fill."""
    possible = TASKS[config.task].shapes
    if len(possible) == 1:
        return possible[0]
    named = config.columns.model_fields_set & {key for shape in possible for key in shape.required}
    for shape in possible:
        fits = all(
            find_column(names, column) is not None
            for key in shape.required
            for column in _wanted(config, key)
        )
        if fits and named <= shape.required.keys() | set(shape.optional):
            return shape
    best = [shape for shape in possible if named and named <= shape.required.keys()]
    if best:
        return best[0]
    forms = "; or ".join(" and ".join(shape.required) for shape in possible)
    raise UserInputError(
        f"rows of {config.task} need the columns {forms}",
        field="data.columns",
        value=", ".join(names[:20]),
        fix="say which column is which, for example data.columns: {"
        + ", ".join(f"{key}: …" for key in possible[0].required)
        + "}",
    )
