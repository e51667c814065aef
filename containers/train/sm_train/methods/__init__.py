"""The methods: one file each, one line here. Importing them imports no torch."""

from __future__ import annotations

import importlib
from typing import Any

from sm_train.job import Job
from sm_train.settings.settings import Method

# name: module. A new method is one new file and one line here.
METHODS = {
    "text-classification": "sm_train.methods.text_classification",
    "token-classification": "sm_train.methods.token_classification",
    "question-answering": "sm_train.methods.question_answering",
    "embedding": "sm_train.methods.embedding",
    "sft": "sm_train.methods.sft",
    "dpo": "sm_train.methods.dpo",
    "kto": "sm_train.methods.kto",
    "orpo": "sm_train.methods.orpo",
    "cpo": "sm_train.methods.cpo",
    "reward": "sm_train.methods.reward",
    "grpo": "sm_train.methods.grpo",
    "rloo": "sm_train.methods.rloo",
    "distillation": "sm_train.methods.distillation",
    "optimize": "sm_train.methods.optimize",
}


def load_method(name: str) -> Method[Any]:
    """The method of that name. Raises KeyError for one that is not registered."""
    method = importlib.import_module(METHODS[name]).METHOD
    assert isinstance(method, Method)
    return method


def train(job: Job) -> None:
    """Train by the job's method: its file's `train`, which reads like a TRL example."""
    importlib.import_module(METHODS[job.config.method.name]).train(job)
