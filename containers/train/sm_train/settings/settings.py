"""The settings of a job, once they are parsed and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sm_train.settings.arguments import DatasetArguments, JobArguments, ModelArguments
from sm_train.settings.method import Method


@dataclass(frozen=True)
class Config:
    """A checked job: the method, its arguments by group, and which keys the user gave."""

    method: Method
    job: JobArguments
    model: ModelArguments
    own: Any  # the method's own arguments dataclass
    dataset: DatasetArguments
    training: dict[str, Any]  # fields of the method's TRL or transformers config
    given: frozenset[str]
    warnings: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)  # a TRL YAML's `env`
    from_file: frozenset[str] = frozenset()  # keys that only the YAML config has
