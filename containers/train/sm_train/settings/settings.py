"""The settings of a job, once they are parsed and checked, and what a method declares of them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypedDict

from typing_extensions import TypeVar

from sm_train.contract import Paths
from sm_train.rows import Data, Row, Tokens
from sm_train.settings.arguments import DatasetArguments, JobArguments, ModelArguments

# The method's own arguments: a dataclass. Whoever is the same for all methods says nothing of it.
Own = TypeVar("Own", default=Any)


class Training(TypedDict, total=False):
    """Fields of the method's TRL or transformers config, as that class has them.

    Any field may be given. Those that are read before the class can be made, for it imports torch,
    stand here with their types.
    """

    assistant_only_loss: bool | None
    auto_find_batch_size: bool | None
    bf16: bool | None
    chat_template_path: str | None
    dataset_text_field: str
    deepspeed: Any
    eos_token: str | None
    eval_strategy: str
    fp16: bool | None
    fsdp: Any
    fsdp_config: Any
    gradient_accumulation_steps: int | None
    load_best_model_at_end: bool | None
    max_length: int | None
    packing: bool | None
    per_device_train_batch_size: int | None
    report_to: Any
    save_strategy: str | None
    save_total_limit: int | None
    seed: int | None
    teacher_model_name_or_path: str | None
    teacher_model_revision: str | None
    use_cpu: bool | None


@dataclass(frozen=True)
class Config(Generic[Own]):
    """A checked job: the method, its arguments by group, and which keys the user gave."""

    method: Method[Own]
    job: JobArguments
    model: ModelArguments
    own: Own
    dataset: DatasetArguments
    training: Training
    given: frozenset[str]
    warnings: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)  # a TRL YAML's `env`
    from_file: frozenset[str] = frozenset()  # keys that only the YAML config has


Answers = Literal["none", "taught", "compared", "judged", "scored", "sampled"]
"""What a method does with answers: of its rows the loss teaches them token by token, compares two,
judges one, or scores them; or the model samples its own. Encoders have none."""


@dataclass(frozen=True)
class HeldOut:
    """How a trainer of TRL makes its batches of held-out rows, by which they are weighed."""

    sequences: int
    """Of each row, one behind another along the first dimension of each tensor."""
    mask: str = ""
    """Which tokens are learnt."""
    of_tokens: Mapping[str, tuple[int, ...]] | None = None
    """Means over tokens: to which of a row's sequences their tokens belong."""


def as_it_is(row: Row) -> Iterable[Row]:
    """A row that is not nested."""
    return [row]


@dataclass(frozen=True)
class Method(Generic[Own]):
    """What a method's file declares beside its `train`: all of it runs before torch is imported."""

    name: str
    # The class of the training arguments and where it lives, as "module:Class".
    training_config: str
    # The method's own hyperparameters: a frozen dataclass with a "help" for each field.
    arguments: type[Own]
    # Turns a raw data row into the row to train on; raises ValueError with the reason it is bad.
    clean_row: Callable[[Row, Config[Own]], Row]
    # A cleaned row as the model gets it; the last argument is the tokenizer.
    tokens: Callable[[Row, Config[Own], Any], list[Tokens]]
    # The columns that the trainer takes instead of a row: of the row and its `tokens`, of which
    # there are none where they could not be made.
    columns: Callable[[Row, list[Tokens]], Row] = lambda _row, _tokens: {}
    # Columns of which each row needs one of every group: (("prompt", "messages"), …).
    required_columns: Callable[[Config[Own]], Iterable[tuple[str, ...]]] = lambda _: ()
    # Whether a column is read as text, be its cells numbers or not.
    reads_text: Callable[[Config[Own], str], bool] = lambda _config, _name: True
    # The rows that one raw row of nested data holds.
    expand: Callable[[Row], Iterable[Row]] = as_it_is
    answers: Answers = "none"
    # What the Hub calls the task of a model that it made.
    pipeline_tag: str = "text-generation"
    # What an optimized model is judged by: the first of these that its rows have.
    judged_by: tuple[str, ...] = ()
    # Whether its train rows may come from a stream.
    streams: bool = False
    # Whether its compute_metrics can be asked on some of the rows: their places are `inputs` then.
    measures_rows: bool = False
    # None: its trainer scores rows by itself.
    held_out: HeldOut | None = None
    # A row's sequences, and how many models hold weights where all are trained; None: not known.
    in_memory: tuple[int, int] | None = None
    # Our defaults where they differ from the library's.
    defaults: Mapping[str, Any] = field(default_factory=dict)
    # Refuses contradictory settings, and data sets as a whole.
    check_arguments: Callable[[Config[Own]], None] = lambda _: None
    check_data: Callable[[Config[Own], Data], None] = lambda _config, _data: None
    # Refuses settings that name files which are not there.
    check_files: Callable[[Config[Own], Paths], None] = lambda _config, _paths: None
    # Own arguments that the library's config has too and must still get.
    shared_keys: tuple[str, ...] = ()
    experimental: bool = False
    # Whether its rows may have images.
    images: bool = False
    # Whether it learns: from a train channel, in several processes, with checkpoints.
    trains: bool = True
    # Of the settings that methods share those that mean something to it; () stands for all.
    shared: tuple[str, ...] = ()
    # The config by whose method rows are read; its last argument is the base model's directory.
    reads_as: Callable[[Config[Own], str], Config[Any]] = lambda config, _source: config


def load_training_config(path: str) -> type[Any]:
    """The class named as "module:Class"."""
    module, _, name = path.partition(":")
    cls: type[Any] = getattr(importlib.import_module(module), name)
    return cls
