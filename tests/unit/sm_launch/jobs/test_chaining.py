"""What a job begins with is looked at before anything starts: an adapter needs its base model."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from sm_launch.errors import UserInputError
from sm_launch.job.config import load_config
from sm_launch.jobs.chaining import base_model


@pytest.fixture(params=["a directory", "an archive"])
def adapter(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Makes an adapter of a base model, with it or without; returns training.model."""

    def make(base: str, *, beside: bool = False) -> str:
        folder = tmp_path / "adapter"
        folder.mkdir()
        about = {"base_model_name_or_path": base}
        (folder / "adapter_config.json").write_text(json.dumps(about))
        (folder / "adapter_model.safetensors").write_bytes(b"x" * 99)
        if beside:
            (folder / "base").mkdir()
            (folder / "base" / "config.json").write_text("{}")
        if request.param == "a directory":
            return "adapter"
        with tarfile.open(tmp_path / "model.tar.gz", "w:gz") as archive:
            archive.add(folder, arcname=".")
        return "model.tar.gz"

    return make


def job(tmp_path: Path, model: str, **training: Any) -> Any:
    document = {"name": "mine", "training": {"method": "dpo", "model": model, **training}}
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(document))
    return load_config(tmp_path / "job.yaml")


def test_an_adapter_without_its_base_model_starts_nothing(adapter: Any, tmp_path: Path) -> None:
    config = job(tmp_path, adapter("/opt/ml/input/data/model"))
    with pytest.raises(UserInputError, match="is an adapter alone") as refused:
        base_model(None, config)  # type: ignore[arg-type]
    assert "training.channels.base" in str(refused.value.fix)


@pytest.mark.parametrize("how", ["beside", "channel", "hub"])
def test_an_adapter_whose_base_model_is_at_hand_is_taken(
    adapter: Any, tmp_path: Path, how: str
) -> None:
    base = "Qwen/Qwen3-0.6B" if how == "hub" else "/opt/ml/input/data/model"
    model = adapter(base, beside=how == "beside")
    given = {"channels": {"train": "a.jsonl", "base": "base"}} if how == "channel" else {}
    source = base_model(None, job(tmp_path, model, **given))  # type: ignore[arg-type]
    assert source.location == str(tmp_path / model)
    again = job(tmp_path, model, **given, hyperparameters={"export": "adapter", "use_peft": True})
    with pytest.raises(UserInputError, match="an adapter of a model that nobody has"):
        base_model(None, again)  # type: ignore[arg-type]
