"""Adapters of all kinds merged into models of all types: the answers stay, a wrong merge shows."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sm_train.errors import UserError
from sm_train.results import merging
from sm_train.results.reloading import FileBacked, Plan, merge_planned

pytestmark = pytest.mark.slow  # imports torch

SHAPE = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
}
ROWS = [5, 9]
LORA: dict[str, dict[str, Any]] = {
    "plain": {"target_modules": "all-linear"},
    "dora": {"target_modules": "all-linear", "use_dora": True},
    "rslora": {"target_modules": ["q_proj"], "use_rslora": True},
    "embedding": {"target_modules": ["embed_tokens", "v_proj"]},
    "saved": {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
    "tokens": {"target_modules": ["q_proj"], "trainable_token_indices": {"embed_tokens": ROWS}},
    "parameters": {"target_modules": [], "target_parameters": ["q_proj.weight"]},
}


def tuned(dtype: str, scale: float = 0.05, **lora: Any) -> Any:
    """A small Llama with an adapter that changes its answers, and a head that is large."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(3)
    base = LlamaForCausalLM(LlamaConfig(**SHAPE))
    base.lm_head.weight.data *= 8
    base = base.to(getattr(torch, dtype))
    model = get_peft_model(base, LoraConfig(r=4, lora_alpha=8, task_type="CAUSAL_LM", **lora))
    for name, weight in model.named_parameters():
        if "lora_B" in name or "token" in name or "modules_to_save" in name:
            weight.data += torch.randn_like(weight) * scale
    return model.eval()


def tokenizer(_text: str = "", return_tensors: str = "pt") -> dict[str, Any]:
    import torch

    return {"input_ids": torch.tensor([[1, 5, 9, 20, 33]])}


def answers(model: Any) -> Any:
    import torch

    with torch.no_grad():
        return model.float()(**tokenizer()).logits


@pytest.mark.parametrize("kind", LORA)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_merged_model_answers_as_the_adapted_one(kind: str, dtype: str) -> None:
    import copy

    import torch

    model = tuned(dtype, **LORA[kind])
    expected = answers(copy.deepcopy(model))
    merged = merging.merge(model, tokenizer, torch.float32, "merged")
    assert {weight.dtype for weight in merged.parameters()} == {torch.float32}
    assert not any("lora" in name or "base_layer" in name for name, _ in merged.named_modules())
    # Exact in float32, but for rows that PEFT keeps in the base's type while it trains.
    near = 1e-4 if dtype == "float32" or kind != "tokens" else 0.05
    assert float((answers(merged) - expected).abs().max()) < near * float(expected.abs().max())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_wrong_merge_shows_whatever_the_type(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from peft.tuners.lora import Linear

    right = Linear.get_delta_weight
    monkeypatch.setattr(Linear, "get_delta_weight", lambda *given: 2 * right(*given))
    model = tuned(dtype, scale=0.5, **LORA["plain"])
    with pytest.raises(UserError, match=rf"changed the logits .*loaded as {dtype}"):
        merging.merge(model, tokenizer, getattr(torch, dtype), "merged")
    assert not any(getattr(part, "merged_adapters", None) for part in model.modules())


def test_a_model_that_insists_on_its_type_is_compared_in_it() -> None:
    import torch

    model = tuned("bfloat16", **LORA["plain"])
    layer = model.get_base_model().model.layers[0]

    def insist(_module: Any, given: Any) -> None:
        if given[0].dtype != torch.bfloat16:
            raise RuntimeError("expected bfloat16")

    layer.register_forward_pre_hook(insist)
    merging.merge(model, tokenizer, torch.bfloat16, "merged")


def test_what_float16_cannot_hold_is_refused() -> None:
    import torch

    model = tuned("float32", **LORA["plain"])
    model.get_base_model().model.norm.weight.data[0] = 1e5
    with pytest.raises(UserError, match=r"dtype = 'float16': a weight of 1e\+05 is too large"):
        merging.merge(model, tokenizer, torch.float16, "merged")


def test_tensors_move_into_files(tmp_path: Path) -> None:
    import torch

    keep = FileBacked(tmp_path)
    for dtype in (torch.bfloat16, torch.float32):
        large = torch.randn(1024, 1024).to(dtype)
        moved = keep(large)
        assert torch.equal(moved, large)
        moved += 1
        assert torch.equal(moved, large + 1)
        pages = Path("/proc/self/maps").read_text().splitlines()
        (own,) = [p for p in pages if in_pages(moved.data_ptr(), p)]
        assert str(tmp_path) in own
    small = torch.zeros(4)
    assert keep(small) is small


def in_pages(address: int, line: str) -> bool:
    start, end = (int(number, 16) for number in line.split(maxsplit=1)[0].split("-"))
    return start <= address < end


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_base_model_is_read_again_and_not_as_the_gpu_had_it(tmp_path: Path, dtype: str) -> None:
    import torch
    from tokenizers import Tokenizer, models
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    from sm_train.results.reloading import describe

    model = tuned(dtype, **LORA["plain"])
    base = model.get_base_model()
    expected = answers(model)
    model.unload().to(getattr(torch, dtype)).save_pretrained(tmp_path / "base")
    model = tuned(dtype, **LORA["plain"])
    (tmp_path / "out").mkdir()
    model.save_pretrained(tmp_path / "out" / "adapter")
    # As after training on a GPU: its attention, four bits, no cache.
    base = model.get_base_model()
    base.config._attn_implementation_internal = "flash_attention_2"
    base.config.quantization_config = {"load_in_4bit": True}
    base.config.use_cache = False
    tokenizer = Tokenizer(models.WordLevel({f"w{i}": i for i in range(64)}, unk_token="w1"))
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="w1", pad_token="w0")
    plan = Plan(
        source=str(tmp_path / "base"),
        revision="main",
        trust_remote_code=False,
        architecture=describe(base, made, tmp_path / "described"),
        described=str(tmp_path / "described"),
        adapter=str(tmp_path / "out" / "adapter"),
        target=str(tmp_path / "out"),
        dtype=dtype,
        export="both",
        new_tokens=[],
        rows_before=None,
    )
    assert replace(plan) == Plan(**json.loads(json.dumps(vars(plan))))
    merge_planned(plan)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["dtype"] == dtype
    assert config["use_cache"] is True
    assert "quantization_config" not in config
    answered = answers(AutoModelForCausalLM.from_pretrained(tmp_path / "out"))
    near = 1e-4 if dtype == "float32" else 0.05
    assert float((answered - expected).abs().max()) < near * float(expected.abs().max())


def test_a_base_that_is_quantised_in_its_files_exports_its_adapter_alone() -> None:
    from torch import nn

    from sm_train.modelling.lora import check_mergeable
    from sm_train.settings.arguments import ModelArguments

    model = nn.Linear(2, 2)
    model.is_quantized = True
    lora = ModelArguments(use_peft=True)
    with pytest.raises(UserError, match=r"export = 'merged': cannot be merged: .* quantised"):
        check_mergeable(model, lora, "merged")
    check_mergeable(model, lora, "adapter")
    check_mergeable(model, replace(lora, load_in_4bit=True), "both")  # its files are whole
