"""What the first rows and the files of local channels already tell: refused before data is sent.

The container reads all rows and refuses the same; here only what it would refuse for sure counts.
Its names of files and columns are generated (`rows.json`), its rules are written again.
"""

from __future__ import annotations

import json
import re
import string
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from sm_launch.errors import UserInputError
from sm_launch.job.config import JobConfig
from sm_launch.job.hyperparameter_names import PROGRAM
from sm_launch.job.hyperparameters import FIELD, default_of, row_rules, split_channels
from sm_launch.target.data_sets import COLUMNS, TEMPLATES, as_object, channels_of, data_set_of
from sm_launch.target.first_rows import data_files, first_rows, kind_of

_CHATS = {"messages", "conversations"}
_BESIDE_CHATS = {"system", "system_prompt", "history"}
"""Columns that make messages of a prompt that is text."""
_LOSSES = {"assistant_only_loss": "messages", "completion_only_loss": "completion"}
_NEED_HELD_OUT = ("eval_strategy", "load_best_model_at_end", "early_stopping_patience")
_TUNED = "tuned"
_TRANSLATION = "translation"
_IMAGES = ("images", "image")
_IMAGE_PARTS = ("image", "image_url", "input_image")
SEEING = ("sft", "dpo")
"""The methods that train on rows with images."""
_NOT_WITH_IMAGES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("streaming", "packing", "padding_free", "predict_with_generate"), ()),
    "precompute_ref_log_probs": (),
    "truncation_mode": ("keep_end",),
    "train_sampling_strategy": ("group_by_length", "batch_rebalance"),
}
"""Settings with the values that are refused; () stands for a switch that is on."""


@dataclass(frozen=True)
class _Seen:
    """Rows of a channel under the method's names."""

    channel: str
    rows: list[dict[str, Any]]
    columns: frozenset[str]
    original: frozenset[str]

    @property
    def told(self) -> str:
        return ", ".join(sorted(self.columns))


def check_first_rows(config: JobConfig, locations: Mapping[str, str]) -> None:
    """Refuse what the training container would refuse once it has looked into its channels.

    Args:
        config: the job.
        locations: channel to a path; channels elsewhere are not looked into.

    Raises:
        UserInputError: naming the channel or the setting.
    """
    values = config.training.hyperparameters
    if PROGRAM in values or "config" in values:  # others say what is read, and how
        return
    if config.training.method not in row_rules()["columns"]:
        return
    _check_held_out(values, locations)
    for split in split_channels():
        for channel in channels_of(locations, split):
            if "://" in locations[channel]:
                continue
            files = data_files(channel, Path(locations[channel]))
            if split == "train" and _is_on(values.get("streaming")):
                _check_streamed(channel, files)
            _check_rows(config, channel, files)


def _is_on(value: object) -> bool:
    return value is True or str(value).lower() == "true"


def _check_streamed(channel: str, files: list[Path]) -> None:
    whole = [path.name for path in files if kind_of(path) in row_rules()["whole"]]
    if whole:
        raise UserInputError(
            f"the channel {channel} has files that are read as a whole: {', '.join(whole[:5])}",
            field=f"{FIELD}.streaming",
            value=True,
            fix="write them as JSON Lines or Parquet, or remove streaming",
        )


def _check_held_out(values: Mapping[str, Any], locations: Mapping[str, str]) -> None:
    """Settings that need held-out rows, where no channel and no file is called so."""
    if not channels_of(locations, "train"):
        return
    remote = any("://" in where for where in locations.values())
    if remote or _holds_out("validation", locations):
        return
    asked = [key for key in _NEED_HELD_OUT if not _holds_out("test", locations)]
    # What is chosen by the test rows would be measured by them, too.
    asked += ["threshold"] if values.get("threshold") == _TUNED else []
    for key in asked:
        value = values.get(key)
        if value not in (None, False, "no", "false", "False"):
            raise UserInputError(
                "needs a validation channel, and the job has none",
                field=f"{FIELD}.{key}",
                value=value,
                fix="add a channel named validation, or remove the setting",
            )


def _holds_out(split: str, locations: Mapping[str, str]) -> bool:
    """Whether a channel is of the split, or may have files that are, by their names."""
    if channels_of(locations, split):
        return True
    return any(_may_hold_out(split, location) for location in locations.values())


def _may_hold_out(split: str, location: str) -> bool:
    """Whether the names of a channel's files or folders tell of a split."""
    names = set(split_channels()[split])
    place = Path(location)
    inside = place.rglob("*") if place.is_dir() else ()
    return any(
        names & set(re.split(r"[^a-z]+", str(path.relative_to(place)).lower())) for path in inside
    )


def _check_rows(config: JobConfig, channel: str, files: list[Path]) -> None:
    values, method = config.training.hyperparameters, config.training.method
    seen = _seen(values, channel, first_rows(channel, files))
    if not seen.rows:
        return
    template = _template(values, channel)
    if template is not None:
        _check_template(template, seen)
    if method not in row_rules()["expanded"]:
        _check_columns(_wanted(method, values), seen, set() if template is None else {"prompt"})
    _check_images(method, values, seen)
    _check_answers(method, values, seen)
    if method == "seq2seq":
        _check_languages(method, values, seen)
    if not channels_of([channel], "train"):
        return
    if method == "sft":
        _check_loss(values, seen, templated=template is not None)
    if method == "embedding":
        _check_kind(values, seen)


def _seen(values: Mapping[str, Any], channel: str, rows: list[dict[str, Any]]) -> _Seen:
    name = (data_set_of(channel) or ("", ""))[1]
    own = as_object(as_object(values.get(COLUMNS)).get(name))
    renames = {**as_object(values.get("columns")), **own}
    named = [{str(renames.get(old, old)): cell for old, cell in row.items()} for row in rows]
    return _Seen(
        channel,
        named,
        frozenset(name for row in named for name in row),
        frozenset(name for row in rows for name in row),
    )


def _template(values: Mapping[str, Any], channel: str) -> str | None:
    name = (data_set_of(channel) or ("", ""))[1]
    template = as_object(values.get(TEMPLATES)).get(name, values.get("prompt_template"))
    return template if isinstance(template, str) else None


def _setting(method: str, values: Mapping[str, Any], name: str) -> Any:
    return values.get(name, default_of(method, name))


def _wanted(method: str, values: Mapping[str, Any]) -> list[list[str]]:
    """The columns of which a row needs one of each group, as the job's settings name them."""
    groups = [
        [_column(method, values, each) for each in group]
        for group in row_rules()["columns"][method]
    ]
    return [[name for name in group if name] for group in groups if any(group)]


def _column(method: str, values: Mapping[str, Any], name: str) -> str:
    """A column, or the one that a setting in braces names; empty where it names none."""
    return str(_setting(method, values, name[1:-1]) or "") if name.startswith("{") else name


def _check_columns(groups: Iterable[list[str]], seen: _Seen, built: set[str]) -> None:
    for group in groups:
        if (seen.columns | built).intersection(group):
            continue
        near = get_close_matches(group[0], seen.columns, n=1)
        example = {near[0] if near else "COLUMN": group[0]}
        raise UserInputError(
            f"has no column {' or '.join(map(repr, group))}; its columns are {seen.told}",
            field=f"training.channels.{seen.channel}",
            fix=f"name the column in its hyperparameter (such as text_column), or rename it with "
            f"{FIELD}.columns: {json.dumps(example)}",
        )


def _check_template(template: str, seen: _Seen) -> None:
    try:
        names = [name for _, name, _, _ in string.Formatter().parse(template) if name]
    except ValueError:
        return  # the container says how one is written
    missing = [name for name in names if name not in seen.columns | seen.original]
    if missing:
        raise UserInputError(
            f"names columns that the channel {seen.channel} does not have: {', '.join(missing)}; "
            f"its columns are {seen.told}",
            field=f"{FIELD}.prompt_template",
            value=template,
            fix="correct the names",
        )


def _check_images(method: str, values: Mapping[str, Any], seen: _Seen) -> None:
    """Images where nothing looks at them, and settings that do not go with them."""
    if method in row_rules()["without_images"] and _have_images(seen.rows):
        raise UserInputError(
            f"the rows of the channel {seen.channel} have images, which only sft and dpo train on",
            field="training.method",
            value=method,
            fix="use sft or dpo with a base model that takes images; or take the images out of "
            "the rows",
        )
    if method not in SEEING or not _have_images(seen.rows):
        return
    for key, refused in _NOT_WITH_IMAGES.items():
        value = values.get(key)
        if _is_on(value) if refused == () else value in refused:
            raise UserInputError(
                f"cannot be done with rows that have images, as the channel {seen.channel} has",
                field=f"{FIELD}.{key}",
                value=value,
                fix="remove the setting",
            )


def _have_images(rows: Iterable[Mapping[str, Any]]) -> bool:
    return any(
        any(row.get(name) is not None for name in _IMAGES) or any(map(_shows, row.values()))
        for row in rows
    )


def _shows(cell: Any) -> bool:
    """Whether messages have a part that is an image."""
    contents = [message.get("content") for message in _objects(cell)]
    return any(part.get("type") in _IMAGE_PARTS for each in contents for part in _objects(each))


def _objects(value: Any) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def have_images(locations: Mapping[str, str]) -> bool:
    """Whether the first rows of a local train channel have images."""
    return any(
        _have_images(first_rows(channel, data_files(channel, Path(locations[channel]))))
        for channel in channels_of(locations, "train")
        if "://" not in locations[channel]
    )


def _check_answers(method: str, values: Mapping[str, Any], seen: _Seen) -> None:
    """The rewards that compare need the right answer."""
    if values.get("reward_model_name_or_path") and "reward_funcs" not in values:
        return
    rewards = _setting(method, values, "reward_funcs")
    for reward, named in row_rules()["answers"].items():
        column = _column(method, values, named)
        if isinstance(rewards, list) and reward in rewards and column not in seen.columns:
            raise UserInputError(
                f"the reward {reward} needs the column {column}, which the channel {seen.channel} "
                f"does not have; its columns are {seen.told}",
                field=f"{FIELD}.reward_funcs",
                value=rewards,
                fix="name the column that holds the right answer in answer_column, rename it with "
                "columns, or use another reward",
            )


def _check_kind(values: Mapping[str, Any], seen: _Seen) -> None:
    """A loss that is not made for what the rows are."""
    kinds = {_kind_of_texts(row) for row in seen.rows}
    loss = values.get("loss")
    fitting = {each for kind in kinds for each in row_rules()["losses"][kind]}
    if loss is not None and loss not in fitting:
        raise UserInputError(
            f"does not take {' or '.join(sorted(kinds))}, which the channel {seen.channel} holds",
            field=f"{FIELD}.loss",
            value=loss,
            fix=f"use {' or '.join(sorted(fitting))}",
        )


def _kind_of_texts(row: Mapping[str, Any]) -> str:
    if row.get("anchor") is not None or row.get("positive") is not None:
        return "triplets" if any(name.startswith("negative") for name in row) else "pairs"
    return "labelled pairs" if row.get("score") is None else "scored pairs"


def _check_languages(method: str, values: Mapping[str, Any], seen: _Seen) -> None:
    """Two languages that each cell of translations has."""
    if _column(method, values, "{source_column}") in seen.columns:
        return
    cells = [as_object(row.get(_TRANSLATION)) for row in seen.rows]
    known = sorted({str(language) for cell in cells for language in cell})
    for key in ("source_lang", "target_lang"):
        language = _setting(method, values, key)
        # mBART and NLLB name a language with its region or script, the data without.
        names = {str(language), str(language).partition("_")[0]}
        if known and (language is None or not names.intersection(known)):
            raise UserInputError(
                f"the column {_TRANSLATION} has {', '.join(known)}",
                field=f"{FIELD}.{key}",
                value=language,
                fix="set source_lang and target_lang to two of them",
            )


def _check_loss(values: Mapping[str, Any], seen: _Seen, *, templated: bool) -> None:
    """A loss on answers alone, where no row says which they are."""
    for key, column in _LOSSES.items():
        if _is_on(values.get(key)) and not any(
            _tells(row, column, templated=templated) for row in seen.rows
        ):
            raise UserInputError(
                f"the rows have no column {column}; their columns are {seen.told}",
                field=f"{FIELD}.{key}",
                value=values[key],
                fix=f"give the rows a column {column}, or set {key} to false",
            )


def _tells(row: Mapping[str, Any], column: str, *, templated: bool) -> bool:
    """Whether a row may become one with that column, or with a conversation and its completion."""
    given = {name for name, cell in row.items() if cell not in (None, "")}
    asked = templated or bool({"prompt", "instruction"} & given)
    if column == "completion":
        return asked
    chat = not isinstance(row.get("prompt"), str) or str(row["prompt"]).lstrip()[:1] in ("[", "{")
    return bool(given.intersection(_CHATS)) or (asked and (chat or bool(given & _BESIDE_CHATS)))
