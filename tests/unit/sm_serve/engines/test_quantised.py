"""Language models in few bits, where no engine computes in them: plain layers, and said once."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("llmcompressor")

from sm_serve.artefact.artefact import inspect  # noqa: E402
from sm_serve.config import Settings  # noqa: E402
from sm_serve.engines import loading, quantised  # noqa: E402
from sm_serve.errors import StartupError  # noqa: E402

pytestmark = pytest.mark.slow  # imports torch


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama in FP8, without calibration."""
    from llmcompressor import oneshot
    from llmcompressor.modifiers.quantization import QuantizationModifier
    from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=300, hidden_size=64, intermediate_size=128, num_hidden_layers=2,
        num_attention_heads=4, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    before, after = (tmp_path_factory.mktemp(name) for name in ("before", "after"))
    LlamaForCausalLM(config).save_pretrained(before)
    model = AutoModelForCausalLM.from_pretrained(before)
    recipe = QuantizationModifier(targets="Linear", scheme="FP8_DYNAMIC", ignore=["lm_head"])
    oneshot(model=model, recipe=recipe)
    model.save_pretrained(after)
    return after


def test_weights_are_those_of_the_file_and_layers_plain(folder: Path, caplog: Any) -> None:
    from safetensors.torch import load_file

    settings = Settings()
    with caplog.at_level(logging.WARNING, "sm_serve"):
        model = loading.load_model(inspect(folder, settings), settings)
    assert [r.message.count("few bits") for r in caplog.records if "few bits" in r.message] == [1]
    stored = load_file(folder / "model.safetensors")
    name = "model.layers.1.mlp.down_proj"
    assert stored[f"{name}.weight"].dtype is torch.float8_e4m3fn
    wanted = stored[f"{name}.weight"].float() * stored[f"{name}.weight_scale"].float()
    layer = model.get_submodule(name)
    assert type(layer) is torch.nn.Linear
    assert "forward" not in vars(layer)
    assert torch.allclose(layer.weight.float(), wanted)
    prompt = torch.tensor([[5, 9, 33]])
    answer = model.generate(prompt, max_new_tokens=4, do_sample=False)
    assert answer.shape[1] > 3


def test_without_the_library_it_is_refused_by_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = json.loads((folder / "config.json").read_text())
    monkeypatch.setattr(quantised.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(StartupError, match=r"compressed-tensors, which is not installed.*vLLM"):
        quantised.dense_options(config)


@pytest.mark.parametrize("described", [None, {}, {"quant_method": "awq"}])
def test_other_checkpoints_are_left_to_transformers(described: Any) -> None:
    assert quantised.dense_options({"quantization_config": described}) == {}
