"""A base directory as SageMaker lays it out, filled by the test."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sm_train.contract import Paths

Rows = list[dict[str, Any]]


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    made = Paths(tmp_path)
    for folder in (made.config, made.channels, made.output_data):
        folder.mkdir(parents=True)
    return made


@pytest.fixture
def hyperparameters(paths: Paths) -> Callable[..., None]:
    def write(**values: Any) -> None:
        (paths.config / "hyperparameters.json").write_text(json.dumps(values))

    return write


@pytest.fixture
def channel(paths: Paths) -> Callable[..., Path]:
    """Write rows as JSON lines, or a file's text as it is."""

    def write(name: str, content: Rows | str, file: str = "data.jsonl") -> Path:
        folder = paths.channels / name
        folder.mkdir(exist_ok=True)
        text = content if isinstance(content, str) else "\n".join(map(json.dumps, content))
        (folder / file).write_text(text)
        return folder

    return write
