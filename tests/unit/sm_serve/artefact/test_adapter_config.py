"""What stands beside an adapter of an encoder-decoder says how the model is asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy
from safetensors.numpy import save_file

from sm_serve.artefact.artefact import inspect
from sm_serve.config import Settings

T5 = {"model_type": "t5", "architectures": ["T5ForConditionalGeneration"],
      "is_encoder_decoder": True, "prefix": "of the base: "}  # fmt: skip


def write(folder: Path, name: str, **files: dict[str, Any]) -> None:
    folder.mkdir()
    save_file({"weight": numpy.zeros(2, "float32")}, folder / name)
    for file, content in files.items():
        (folder / f"{file}.json").write_text(json.dumps(content))


def test_the_prefix_is_that_of_training(tmp_path: Path) -> None:
    write(tmp_path / "t5", "model.safetensors", config=T5)
    peft = {"base_model_name_or_path": str(tmp_path / "t5"), "task_type": "SEQ_2_SEQ_LM"}
    told = {**T5, "prefix": "own: ", "task_specific_params": {"summarization": {"num_beams": 2}}}
    for name, own, prefix in (("silent", {}, "of the base: "), ("told", {"config": told}, "own: ")):
        write(tmp_path / name, "adapter_model.safetensors", adapter_config=peft, **own)
        artefact = inspect(tmp_path / name, Settings())
        assert artefact.is_adapter
        assert artefact.config["prefix"] == prefix
    assert artefact.config["task_specific_params"] == told["task_specific_params"]
