"""An ONNX file is a model's weights where there are no others, and only there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sm_serve.artefact.artefact import ONNX, inspect
from sm_serve.config import Settings
from sm_serve.errors import StartupError


@pytest.fixture
def model(tmp_path: Path) -> Path:
    described = {"model_type": "bert", "architectures": ["BertForSequenceClassification"]}
    (tmp_path / "config.json").write_text(json.dumps(described))
    return tmp_path


@pytest.mark.parametrize("name", ONNX)
def test_it_is_found_under_the_names_that_others_give_it(model: Path, name: str) -> None:
    settings = Settings(base_dir=model)
    with pytest.raises(StartupError, match="no weights"):
        inspect(model, settings)
    (model / name).parent.mkdir(exist_ok=True)
    (model / name).write_text("")
    assert inspect(model, settings).onnx == model / name


@pytest.mark.parametrize("other", ["pytorch_model.bin", "model.pt"])
def test_other_weights_go_before_it_and_are_still_refused_as_pickles(
    model: Path, other: str
) -> None:
    (model / "model.onnx").write_text("")
    (model / other).write_text("")
    with pytest.raises(StartupError, match="pickle"):
        inspect(model, Settings(base_dir=model))
    assert inspect(model, Settings(base_dir=model, allow_pickle_weights=True)).onnx is None
