"""What a training method declares: everything but its training runs before torch is imported."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Method:
    """What a method's file declares; everything but `train` runs before torch is imported."""

    name: str
    # The class of the training arguments and where it lives, as "module:Class".
    training_config: str
    # The method's own hyperparameters: a frozen dataclass with a "help" for each field.
    arguments: type[Any]
    # Turns a raw data row into the row to train on; raises ValueError with the reason it is bad.
    clean_row: Callable[[dict[str, Any], Any], dict[str, Any]]
    # Reads like a TRL example: model, data, trainer, fit. Takes a `sm_train.job.Job`.
    train: Callable[[Any], None]
    # A cleaned row as the model gets it (row, Config, tokenizer), as a list of `sequences.Tokens`.
    tokens: Callable[[dict[str, Any], Any, Any], list[Any]]
    # Columns of which each row needs one of every group: (("prompt", "messages"), …).
    required_columns: Callable[[Any], Iterable[tuple[str, ...]]] = field(default=lambda _: ())
    # Whether a column (Config, name) is read as text, be its cells numbers or not.
    reads_text: Callable[[Any, str], bool] = field(default=lambda _config, _name: True)
    # The rows that one raw row of nested data holds.
    expand: Callable[[dict[str, Any]], Iterable[dict[str, Any]]] = field(default=lambda row: [row])
    # Our defaults where they differ from the library's.
    defaults: Mapping[str, Any] = field(default_factory=dict)
    # Refuses contradictory settings (takes the Config) and data sets as a whole (the Job's data).
    check_arguments: Callable[[Any], None] = field(default=lambda _: None)
    check_data: Callable[[Any, Any], None] = field(default=lambda _config, _data: None)
    # Refuses settings that name files which are not there (takes the Config and the Paths).
    check_files: Callable[[Any, Any], None] = field(default=lambda _config, _paths: None)
    # Own arguments that the library's config has too and must still get.
    shared_keys: tuple[str, ...] = ()
    experimental: bool = False


def load_training_config(path: str) -> type[Any]:
    """The class named as "module:Class"."""
    module, _, name = path.partition(":")
    cls: type[Any] = getattr(importlib.import_module(module), name)
    return cls
