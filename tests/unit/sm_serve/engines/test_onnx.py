"""What is not served by an ONNX file is refused by name, before anything is loaded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sm_serve.artefact.artefact import Artefact
from sm_serve.config import Settings
from sm_serve.engines.encoders.classification import ClassificationEngine
from sm_serve.engines.encoders.onnx import OnnxModel, load
from sm_serve.errors import BadRequest, StartupError
from sm_serve.protocol import Task


@pytest.fixture
def artefact(tmp_path: Path) -> Artefact:
    (tmp_path / "model.onnx").write_text("")
    return Artefact(tmp_path, tmp_path, Task.TEXT_CLASSIFICATION, {})


@pytest.mark.parametrize(
    ("changes", "settings", "named"),
    [
        ({"task": Task.FILL_MASK}, {}, "fill-mask"),
        ({}, {"device": "cuda:1"}, "SM_SERVE_DEVICE='cuda:1'"),
        ({}, {"dtype": "bfloat16"}, "SM_SERVE_DTYPE='bfloat16'"),
    ],
)
def test_tasks_devices_and_types(
    artefact: Artefact, changes: dict[str, Any], settings: dict[str, Any], named: str
) -> None:
    with pytest.raises(StartupError, match=named):
        load(replace(artefact, **changes), Settings(base_dir=artefact.path, **settings))


def test_an_adapter_whose_base_is_such_a_file(artefact: Artefact, tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(StartupError, match="takes"):
        load(replace(artefact, path=folder), Settings(base_dir=artefact.path))


def test_an_adapter_for_such_a_model(tmp_path: Path) -> None:
    engine = ClassificationEngine.__new__(ClassificationEngine)
    engine.model = OnnxModel.__new__(OnnxModel)
    with pytest.raises(BadRequest, match="takes no adapters"):
        engine._load("mine", tmp_path)
