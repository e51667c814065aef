"""The `data` section of a job, with what the rest of job.yaml says about it."""

from __future__ import annotations

from pathlib import Path

from sm_launch.config import JobConfig
from sm_launch.data.config import DataConfig
from sm_launch.errors import UserInputError


def data_section(config: JobConfig) -> DataConfig:
    """The section to prepare data by; `tokens.tokenizer` is settled.

    Raises:
        UserInputError: there is no such section, or no tokenizer for `tokens`.
    """
    if config.data is None:
        raise UserInputError(
            "is needed to prepare data",
            field="data",
            fix="name the raw file in job.yaml; `sm-launch init` shows how",
        )
    if config.data.tokens is None:
        return config.data
    named = config.data.tokens.tokenizer
    location = str(config.path(named)) if named else _of_the_model(config)
    tokens = config.data.tokens.model_copy(update={"tokenizer": location})
    return config.data.model_copy(update={"tokens": tokens})


def _of_the_model(config: JobConfig) -> str:
    from sm_launch.staging import resolve_model

    location = resolve_model(config).location if config.training.model else None
    if location is None or "://" in location or not (Path(location) / "tokenizer.json").is_file():
        raise UserInputError(
            "the tokenizer of training.model is not on this machine",
            field="data.tokens.tokenizer",
            value=config.training.model,
            fix="name a model directory with a tokenizer.json, or that file",
        )
    return location
