"""Linear layers by oneDNN: the same numbers, no second copy of the weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from sm_serve.engines import packing  # noqa: E402

pytestmark = pytest.mark.slow  # imports torch


def language_model(*, tied: bool) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=300, hidden_size=64, intermediate_size=128, num_hidden_layers=2,
        num_attention_heads=4, tie_word_embeddings=tied, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def always(_inputs: int, _outputs: int) -> bool:
    return True


@pytest.mark.parametrize("tied", [False, True])
def test_a_packed_model_gives_the_same_logits_and_tokens(tied: bool) -> None:
    model = language_model(tied=tied)
    prompt = torch.tensor([[5, 9, 33, 7]])
    with torch.inference_mode():
        before = model(input_ids=prompt).logits
        tokens = model.generate(prompt, max_new_tokens=12, do_sample=False)
        assert packing.pack_linears(model, always) == 15
        assert torch.allclose(model(input_ids=prompt).logits, before, atol=1e-5)
        assert torch.equal(model.generate(prompt, max_new_tokens=12, do_sample=False), tokens)


def test_onednn_meets_few_numbers_of_rows() -> None:
    assert [packing.padding(rows) for rows in (1, 16, 17, 256, 257, 320)] == [0, 0, 15, 0, 63, 0]
    assert len({rows + packing.padding(rows) for rows in range(17, 2049)}) < 50
    dense = torch.nn.Linear(40, 30)
    packed = packing.pack(dense, keep=False)
    values = torch.randn(3, 7, 40)
    with torch.inference_mode():
        assert torch.allclose(packed(values), dense(values), atol=1e-5)
        assert packed(values).shape == (3, 7, 30)


def test_the_dense_weights_are_freed_unless_an_embedding_shares_them() -> None:
    for tied in (False, True):
        model = language_model(tied=tied)
        packing.pack_linears(model, always)
        inner = model.model.layers[0].mlp.up_proj
        assert inner.weight.shape == (128, 64)
        assert inner.weight.untyped_storage().nbytes() == 4
        assert bool(torch.isnan(inner.weight).all())
        head = model.get_output_embeddings()
        assert (head.weight is not None) and bool(torch.isnan(head.weight).any()) is not tied
        assert not torch.isnan(model.get_input_embeddings().weight).any()


def test_adapters_work_on_packed_layers(tmp_path: Any) -> None:
    from peft import LoraConfig, PeftModel, get_peft_model

    from sm_serve.engines.adapters.lora import LoraAdapters

    tuned = get_peft_model(
        language_model(tied=False),
        LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj", "down_proj"],
                   init_lora_weights=False),
    )  # fmt: skip
    tuned.save_pretrained(tmp_path)
    prompt = torch.tensor([[5, 9, 33, 7]])
    expected = PeftModel.from_pretrained(language_model(tied=False), tmp_path)
    model = language_model(tied=False)
    packing.pack_linears(model, always)
    lora = LoraAdapters(model, 2)
    lora.load("mine", tmp_path)
    with torch.inference_mode(), lora.all_through("mine"):
        assert torch.allclose(
            model(input_ids=prompt).logits, expected(input_ids=prompt).logits, atol=1e-4
        )


def test_shapes_that_gain_nothing_and_other_types_are_left_alone() -> None:
    model = language_model(tied=False)
    assert packing.pack_linears(model, lambda inputs, outputs: outputs == 128) == 4
    assert type(model.model.layers[0].self_attn.q_proj) is torch.nn.Linear
    assert packing.pack_linears(language_model(tied=False).to(torch.bfloat16), always) == 0
    assert packing.is_faster(8, 8) is False
    assert packing.pack_linears(model) == 0


def test_the_weights_file_does_not_stay_in_memory(tmp_path: Any) -> None:
    from transformers import AutoModelForCausalLM

    language_model(tied=True).save_pretrained(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    mapped = str(tmp_path / "model.safetensors")
    assert mapped in Path("/proc/self/maps").read_text(), "this torch reads it otherwise"
    packing.pack_linears(model, always)
    assert mapped not in Path("/proc/self/maps").read_text()
