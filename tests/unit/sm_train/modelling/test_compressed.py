"""Language models in fewer bits: what is written is small, transformers reads it, answers stay."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sm_train.errors import UserError
from sm_train.modelling import compressed

pytestmark = pytest.mark.slow

SIZES = {
    "vocab_size": 96, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
    "max_position_embeddings": 64,
}  # fmt: skip
BITS = {"fp8": (8, "float"), "int8": (8, "int"), "int4": (4, "int")}


def model_of(kind: str, folder: Path, **settings: Any) -> Any:
    import torch
    import transformers

    torch.manual_seed(5)
    config = getattr(transformers, f"{kind}Config")(**{**SIZES, **settings})
    name = f"{kind}{'LMHeadModel' if kind == 'GPT2' else 'ForCausalLM'}"
    getattr(transformers, name)(config).save_pretrained(folder)
    return transformers.AutoModelForCausalLM.from_pretrained(folder).eval()


def rows(count: int = 8) -> Any:
    import datasets
    import torch

    chance = torch.Generator().manual_seed(2)
    texts = [torch.randint(0, 96, (5 + place,), generator=chance) for place in range(count)]
    return datasets.Dataset.from_dict({"input_ids": [text.tolist() for text in texts]})


@pytest.mark.parametrize(
    ("precision", "kind"), [("fp8", "Llama"), ("int8", "Qwen3"), ("int4", "Llama")]
)
def test_what_is_written_is_small_and_answers_as_the_model_does(
    precision: str, kind: str, tmp_path: Path
) -> None:
    import torch

    model = model_of(kind, tmp_path / "before", tie_word_embeddings=True)
    ids = torch.randint(0, 96, (3, 40), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        wanted = model(ids).logits
    assert "14 linear layers" in compressed.describe(model, precision)
    compressed.compress(model, object(), precision, rows(), tmp_path / "after")
    described = json.loads((tmp_path / "after" / "config.json").read_text())
    quantised = described["quantization_config"]
    assert quantised["quant_method"] == "compressed-tensors"
    weights = quantised["config_groups"]["group_0"]["weights"]
    assert (weights["num_bits"], weights["type"]) == BITS[precision]
    assert weights["group_size"] == (32 if precision == "int4" else None)
    assert described["dtype"] == "bfloat16"

    def size(side: str) -> int:
        return (tmp_path / side / "model.safetensors").stat().st_size

    # An eighth and a quarter of the layers, half of the embedding; scales and names beside them.
    assert size("after") < (0.45 if precision == "int4" else 0.55) * size("before")
    made = compressed.reload(tmp_path / "after", "cpu", "eager")
    assert made.config._attn_implementation == "eager"
    with torch.no_grad():
        answered = made(ids).logits.float()
    apart = (answered - wanted).square().mean().sqrt() / wanted.std()
    assert apart < 0.5  # a model of random weights; twice what rounding makes of it
    scored = made(input_ids=ids, labels=ids, fused_lm_head=True)
    assert scored.log_probs.shape[0] == 3


def test_layers_that_cannot_be_rounded_are_refused_and_the_others_counted(tmp_path: Path) -> None:
    gpt2 = model_of("GPT2", tmp_path / "gpt2", n_embd=64, n_layer=1, n_head=4, n_positions=64)
    with pytest.raises(UserError, match="reaches 0%") as refused:
        compressed.describe(gpt2, "fp8")
    assert refused.value.field == "precision"
    odd = model_of("Llama", tmp_path / "odd", intermediate_size=90)
    with pytest.raises(UserError, match="multiple of 32") as refused:
        compressed.compress(odd, object(), "int4", rows(), tmp_path / "after")
    assert (refused.value.value, refused.value.fix) == ("int4", "use int8 or fp8")
    routed = model_of("Llama", tmp_path / "even", num_hidden_layers=1)
    assert compressed.group_size(routed) == 32
