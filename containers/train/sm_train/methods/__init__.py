"""The methods: one file each. Importing them imports no torch."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

from sm_train.job import Job
from sm_train.settings.settings import Method

_DECLARES = re.compile(r"^METHOD\b", re.MULTILINE)

METHODS = {
    file.stem.replace("_", "-"): f"{__name__}.{file.stem}"
    for file in sorted(Path(__file__).parent.glob("*.py"))
    if _DECLARES.search(file.read_text(encoding="utf-8"))
}
"""Name to module: a file of this folder that declares a METHOD is one, named as the method."""


def load_method(name: str) -> Method[Any]:
    """The method of that name. Raises KeyError for one that no file declares."""
    method = importlib.import_module(METHODS[name]).METHOD
    assert isinstance(method, Method)
    assert method.name == name, f"{METHODS[name]} declares {method.name}"
    return method


def train(job: Job) -> None:
    """Train by the job's method: its file's `train`, which reads like a TRL example."""
    importlib.import_module(METHODS[job.config.method.name]).train(job)
