"""How a model is asked so that its answers are those that training measured.

It stands in config.json, in `task_specific_params` (transformers' place for defaults by task): the
parameters by the names of Hugging Face's pipelines, and under `columns` the data's own column for
each input and for the expected answer. An evaluation sends what stands there; where a request says
nothing, the server takes the length from there, how tokens are joined to entities, and for
questions everything.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from sm_train.contract import Paths, data_set_of
from sm_train.data.readers import channel_files
from sm_train.rows import Data
from sm_train.settings.settings import Config


def tell(
    model: Any, config: Config, parameters: dict[str, Any], columns: dict[str, str | None]
) -> None:
    """Write down in the model's config how its task is asked.

    Args:
        model: its config is written with it.
        config: the job's, which may rename columns.
        parameters: by the pipeline's names.
        columns: the pipeline's input, or `label`, to the column; None for one that is not used.
    """
    raw = {new: old for old, new in config.job.columns.items()}
    named = {name: raw.get(column, column) for name, column in columns.items() if column}
    # The base model's own tasks are not this one.
    model.config.task_specific_params = {config.method.name: {**parameters, "columns": named}}


def identity_of_test(paths: Paths, data: Data) -> dict[str, Any]:
    """What tells the test rows from any others: how many there are, and their files' checksum.

    The sha256 of the files' own sha256 digests, in the order of their names; of several data sets
    in the order of their channels.
    """
    named = dict.fromkeys(origin.channel for origin in data.origins.get("test", ()))
    several = [name for name in named if (data_set_of(name) or ("",))[0] == "test"]
    whole = paths.split("test")
    channels = [paths.channels / name for name in several]
    if whole is not None and not several:
        channels = [whole]
    files = [path for channel in channels for path in channel_files(channel)]
    if not files or data.test is None:
        return {}
    return {"test_rows": len(data.test), "test_sha256": files_sha256(files)}


def files_sha256(files: list[Path]) -> str:
    """See `identity_of_test`."""
    whole = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            whole.update(hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()
