"""An adapter that went wrong is refused when it is loaded, and spoils only itself if it is not."""

import json
import math

import pytest

from sm_serve.engines.adapters.adapter_files import check_adapter
from sm_serve.engines.adapters.lora import LoraAdapters
from sm_serve.errors import BadRequest

pytestmark = pytest.mark.slow  # imports torch

MODULE = "model.layers.0.self_attn.q_proj"


@pytest.fixture
def model():
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {"vocab_size": 50, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    config = LlamaConfig(**sizes, num_attention_heads=2, num_key_value_heads=2)
    return LlamaForCausalLM(config).eval()


def lay(folder, fill=0.1, at="B", module=MODULE, **config):
    """An adapter of rank 2, one of whose values is `fill`."""
    import torch
    from safetensors.torch import save_file

    folder.mkdir(exist_ok=True)
    sides = {"A": torch.full((2, 16), 0.1), "B": torch.full((16, 2), 0.1)}
    sides[at][1, 1] = fill
    tensors = {f"base_model.model.{module}.lora_{side}.weight": w for side, w in sides.items()}
    save_file(tensors, folder / "adapter_model.safetensors")
    document = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, **config}
    (folder / "adapter_config.json").write_text(json.dumps(document))
    return folder


BAD = [
    *({"fill": fill, "at": at} for fill in (math.nan, math.inf, -1e30, 2e4) for at in "AB"),
    *({"lora_alpha": alpha} for alpha in (math.nan, math.inf, 1e30, "8", None, True)),
    *({"r": rank} for rank in (0, -1, 8, "2", 2.5)),
    {"rank_pattern": {"q_proj": 4}},
    {"alpha_pattern": {"q_proj": 1e30}},
    {"alpha_pattern": {"(": 4}},
    {"rank_pattern": [1]},
]


@pytest.mark.parametrize("bad", BAD, ids=str)
def test_what_no_training_leaves_is_refused_at_load(tmp_path, model, bad):
    lora = LoraAdapters(model, 4)
    with pytest.raises(BadRequest):
        lora.load("bad", lay(tmp_path / "a", **bad))
    with pytest.raises(BadRequest):
        check_adapter(tmp_path / "a")
    assert lora.names() == []
    lora.load("good", lay(tmp_path / "a"))
    assert lora.names() == ["good"]


def test_weights_that_are_each_fine_and_too_large_together_are_refused(tmp_path, model):
    lora = LoraAdapters(model, 4)
    with pytest.raises(BadRequest, match="no numbers"):
        lora.load("bad", lay(tmp_path / "a", fill=9e3, lora_alpha=1e6))
    assert lora.names() == []


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e30])
def test_what_goes_wrong_later_spoils_only_its_own_tokens(tmp_path, model, value):
    import torch

    ids = torch.arange(8).unsqueeze(0)
    expected = model(input_ids=ids).logits
    lora = LoraAdapters(model, 4)
    for name in ("bad", "good"):
        lora.load(name, lay(tmp_path / name))
    lora._layers[MODULE].adapters["bad"].up[:] = value
    lora.route([(None, 3), ("bad", 2), ("good", 3)])
    answer = model(input_ids=ids).logits
    assert bool(answer.isfinite().all())
    assert torch.equal(answer[:, :3], expected[:, :3])
    assert lora.spoilt("bad")
    assert not lora.spoilt("good")
    lora.remove("bad")
    lora.load("bad", lay(tmp_path / "bad"))
    assert not lora.spoilt("bad")
