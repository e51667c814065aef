"""Rows of Hub data sets, or of folders, for a job without data channels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sm_train.data import class_ids
from sm_train.data.cells import plain_row
from sm_train.data.readers import RawRow
from sm_train.errors import UserError, shorten
from sm_train.settings.arguments import DatasetArguments


def remote_splits(arguments: DatasetArguments) -> dict[str, Any]:
    """`train` and maybe `validation` as `datasets.Dataset`. Raises UserError when there is none."""
    field = "datasets" if arguments.datasets else "dataset_name"
    value = arguments.datasets or arguments.dataset_name
    try:
        splits = _mixture(arguments) if arguments.datasets else _single(arguments)
    except UserError:
        raise
    except Exception as error:  # datasets raises some twenty kinds, down to its readers' own
        raise UserError(
            f"cannot be loaded: {type(error).__name__}: {shorten(str(error), 300)}",
            field=field,
            value=value,
            fix="correct it, or give the job the data as a channel named train "
            "(the only way without internet access)",
        ) from error
    return splits


def _single(arguments: DatasetArguments) -> dict[str, Any]:
    from datasets import load_dataset

    loaded = load_dataset(str(arguments.dataset_name), name=arguments.dataset_config)
    wanted = arguments.dataset_train_split
    if wanted not in loaded:
        raise UserError(
            f"{arguments.dataset_name} has no such split; it has {sorted(loaded)}",
            field="dataset_train_split",
            value=wanted,
            fix="name one of them",
        )
    test = loaded.get(arguments.dataset_test_split)
    return {"train": loaded[wanted]} | ({} if test is None else {"validation": test})


def _mixture(arguments: DatasetArguments) -> dict[str, Any]:
    from trl import DatasetMixtureConfig, get_dataset

    size = arguments.test_split_size
    mixture = DatasetMixtureConfig(
        datasets=[dict(part) for part in arguments.datasets or ()],
        test_split_size=int(size) if size and size >= 1 else size,
    )
    mixed = get_dataset(mixture)
    return {"train": mixed["train"]} | ({"validation": mixed["test"]} if "test" in mixed else {})


def remote_rows(dataset: Any, name: str) -> Iterator[RawRow]:
    """The rows of a loaded data set."""
    ids = class_ids.readers(dataset.features.to_dict())
    for number, row in enumerate(_undecoded(dataset), 1):
        classes = {column: read(row[column]) for column, read in ids.items()}
        yield RawRow(name, number, plain_row(row | classes))


def _undecoded(dataset: Any) -> Any:
    """With images as their bytes or paths: they are decoded when a batch needs them."""
    from datasets import Image, List

    for column, kind in dataset.features.items():
        if isinstance(kind, Image):
            dataset = dataset.cast_column(column, Image(decode=False))
        elif isinstance(kind, List) and isinstance(kind.feature, Image):
            dataset = dataset.cast_column(column, List(Image(decode=False)))
    return dataset
