"""The count by config.json against transformers' own: every type is built on the meta device."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest

from sm_launch.job import model_size

pytestmark = pytest.mark.slow

SMALL = {
    "hidden_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": 1000,
    "intermediate_size": 160, "max_position_embeddings": 64, "pad_token_id": 0,
}  # fmt: skip
GROUPED = SMALL | {"num_key_value_heads": 2, "head_dim": 32}
SMALL_T5 = {"d_model": 96, "d_kv": 16, "num_heads": 4, "d_ff": 160, "num_layers": 3,
            "num_decoder_layers": 2, "vocab_size": 1000}  # fmt: skip
EXPERTS = {"moe_intermediate_size": 80, "num_experts": 8, "num_experts_per_tok": 2}
DEBERTA = {"relative_attention": True, "position_buckets": 32, "norm_rel_ebd": "layer_norm",
           "share_att_key": True, "pos_att_type": ["c2p", "p2c"], "position_biased_input": False,
           "type_vocab_size": 0}  # fmt: skip
PUBLIC: dict[str, tuple[str, dict[str, Any], float]] = {
    "ModernBERT-large": ("modernbert", {"hidden_size": 1024, "num_hidden_layers": 28,
                         "num_attention_heads": 16, "intermediate_size": 2624}, 395e6),
    "albert-base-v2": ("albert", {"hidden_size": 768, "num_attention_heads": 12,
                       "intermediate_size": 3072}, 11.7e6),
    "distilroberta-base": ("roberta", {"num_hidden_layers": 6, "vocab_size": 50265,
                           "max_position_embeddings": 514, "type_vocab_size": 1}, 82e6),
    "xlm-roberta-base": ("xlm-roberta", {"vocab_size": 250002, "type_vocab_size": 1,
                         "max_position_embeddings": 514}, 278e6),
    "Mixtral-8x7B": ("mixtral", {}, 46.7e9),
    "flan-t5-base": ("t5", {"d_model": 768, "d_ff": 2048, "num_layers": 12, "num_heads": 12,
                     "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}, 223e6),
    "gpt2": ("gpt2", {}, 124e6),
    "Llama-3.1-8B": ("llama", {"intermediate_size": 14336, "num_key_value_heads": 8,
                     "vocab_size": 128256}, 8.03e9),
    "DeepSeek-V3": ("deepseek_v3", {}, 671e9),
    "gpt-oss-20b": ("gpt_oss", {"num_hidden_layers": 24, "num_local_experts": 32}, 20.9e9),
    "deberta-v3-base": ("deberta-v2", {"hidden_size": 768, "num_hidden_layers": 12, **DEBERTA,
                        "num_attention_heads": 12, "intermediate_size": 3072,
                        "position_buckets": 256}, 184e6),
}  # fmt: skip
CASES: list[tuple[str, dict[str, Any]]] = [
    *((kind, config) for kind, config, _ in PUBLIC.values()),
    *((kind, SMALL) for kind in ("bert", "roberta", "camembert", "mpnet", "modernbert", "opt",
                                 "gpt_neox", "phi", "starcoder2", "falcon")),
    *((kind, GROUPED) for kind in ("llama", "mistral", "ministral", "qwen2", "qwen3", "gemma",
                                   "gemma2", "gemma3_text", "granite", "smollm3", "starcoder2")),
    ("olmo2", SMALL | {"num_key_value_heads": 2}),
    ("phi3", SMALL | {"num_key_value_heads": 2}),
    ("llama", GROUPED | {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}),
    ("qwen3", GROUPED | {"attention_bias": True}),
    ("electra", SMALL | {"embedding_size": 32}),
    ("distilbert", {"dim": 96, "hidden_dim": 160, "n_layers": 2, "vocab_size": 1000}),
    ("albert", SMALL | {"embedding_size": 32, "num_hidden_groups": 3}),
    ("deberta-v2", SMALL | DEBERTA),
    ("deberta-v2", SMALL | DEBERTA | {"share_att_key": False, "conv_kernel_size": 3}),
    ("deberta-v2", SMALL | {"relative_attention": False}),
    ("modernbert", SMALL | {"norm_bias": True, "mlp_bias": True, "attention_bias": True}),
    ("t5", SMALL_T5),
    ("mt5", SMALL_T5 | {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
    *((kind, {"d_model": 96, "encoder_layers": 2, "decoder_layers": 3, "encoder_ffn_dim": 160,
              "decoder_ffn_dim": 128, "vocab_size": 1000, "encoder_attention_heads": 4,
              "decoder_attention_heads": 4}) for kind in ("bart", "mbart")),
    ("gpt2", {"n_embd": 96, "n_layer": 3, "n_head": 4, "vocab_size": 1000, "n_inner": 100}),
    ("bloom", {"hidden_size": 96, "n_layer": 3, "n_head": 4, "vocab_size": 1000}),
    ("opt", SMALL | {"ffn_dim": 160, "word_embed_proj_dim": 32, "do_layer_norm_before": False}),
    ("gpt_neox", SMALL | {"attention_bias": False}),
    ("falcon", SMALL | {"new_decoder_architecture": True, "num_kv_heads": 2}),
    ("falcon", SMALL | {"multi_query": False, "parallel_attn": False, "bias": True}),
    ("olmoe", SMALL | {"num_experts": 8}),
    ("mixtral", GROUPED | {"num_local_experts": 4}),
    ("qwen2_moe", SMALL | EXPERTS | {"shared_expert_intermediate_size": 64}),
    ("qwen3_moe", GROUPED | EXPERTS | {"mlp_only_layers": [1]}),
    ("qwen3_moe", GROUPED | EXPERTS | {"decoder_sparse_step": 2}),
    ("gpt_oss", GROUPED | {"num_local_experts": 4}),
    ("deepseek_v3", SMALL | EXPERTS | {"n_routed_experts": 8, "q_lora_rank": None,
                    "kv_lora_rank": 32, "qk_rope_head_dim": 16, "qk_nope_head_dim": 16,
                    "v_head_dim": 16, "n_group": 2, "topk_group": 1, "first_k_dense_replace": 1}),
]  # fmt: skip


@cache
def built(kind: str, written: str) -> tuple[Any, dict[str, Any]]:
    """The model on the meta device, and its config.json."""
    import torch
    import transformers

    config = transformers.AutoConfig.for_model(kind, **json.loads(written))
    classes = [transformers.AutoModelForCausalLM, transformers.AutoModelForSequenceClassification]
    if kind in {"t5", "mt5", "bart", "mbart"}:
        classes = [transformers.AutoModelForSeq2SeqLM]
    elif kind in model_size.encoder_sizes.TYPES:
        classes = classes[1:]
    with torch.device("meta"):
        model = classes[0].from_config(config)
    return model, json.loads(config.to_json_string(use_diff=False))


@pytest.mark.parametrize(("kind", "config"), CASES, ids=lambda value: str(value)[:40])
def test_the_count_is_that_of_transformers(kind: str, config: dict[str, Any]) -> None:
    model, described = built(kind, json.dumps(config, sort_keys=True))
    size = model_size.count(described)
    assert size is not None
    own = sum(parameter.numel() for parameter in model.parameters())
    assert size.parameters == pytest.approx(own, rel=0.01)


def test_every_type_that_is_counted_is_tried() -> None:
    aliases = {"kimi_k2", "deepseek_v2"}  # built by the classes of deepseek_v3's kind
    assert model_size.known_types() - aliases == {kind for kind, _ in CASES}


@pytest.mark.parametrize("name", PUBLIC)
def test_public_models_have_their_published_sizes(name: str) -> None:
    kind, config, published = PUBLIC[name]
    _, described = built(kind, json.dumps(config, sort_keys=True))
    size = model_size.count(described)
    assert size is not None
    assert size.parameters == pytest.approx(published, rel=0.015)


@pytest.mark.parametrize(
    "kind",
    ["llama", "qwen2", "phi3", "gpt2", "bert", "modernbert", "mixtral", "qwen2_moe", "qwen3_moe",
     "olmoe", "deepseek_v3", "gpt_oss"],
)  # fmt: skip
def test_lora_is_as_large_as_peft_makes_it(kind: str) -> None:
    from peft import LoraConfig, get_peft_model

    config = next(each for name, each in reversed(CASES) if name == kind)
    model, described = built(kind, json.dumps(config | {"_": kind}, sort_keys=True))
    size = model_size.count(described)
    assert size is not None
    task = "SEQ_CLS" if kind in {"bert", "modernbert"} else "CAUSAL_LM"
    model = get_peft_model(model, LoraConfig(r=8, target_modules="all-linear", task_type=task))
    own = sum(p.numel() for name, p in model.named_parameters() if "lora_" in name)
    # PEFT leaves out the plain MLPs of some mixtures, which are counted to be careful.
    assert own * 0.99 <= size.adapters(8) <= own * 1.2


def test_a_mixture_passes_only_some_of_its_experts() -> None:
    _, described = built("mixtral", "{}")
    size = model_size.count(described)
    assert size is not None
    assert size.shape is not None
    assert size.shape.inner == 2 * 14336


def test_what_activations_depend_on_is_read_of_every_type() -> None:
    for kind, config in CASES:
        model, described = built(kind, json.dumps(config, sort_keys=True))
        size = model_size.count(described)
        assert size is not None
        assert size.shape is not None, kind
        text = model.config.get_text_config()
        layers = {
            "t5": ("num_layers", "num_decoder_layers"),
            "bart": ("encoder_layers", "decoder_layers"),
        }.get(kind.removeprefix("m"), ("num_hidden_layers",))
        assert size.shape.hidden == text.hidden_size
        assert size.shape.layers == sum(getattr(text, name) for name in layers)
        assert size.shape.vocabulary == text.vocab_size


@pytest.mark.parametrize(
    "broken",
    [{}, {"model_type": "llama"}, {"model_type": "unheard"},
     {"model_type": "llama", **SMALL, "hidden_size": "wide"}],
)  # fmt: skip
def test_what_is_not_understood_is_not_counted(broken: dict[str, Any]) -> None:
    assert model_size.count(broken) is None
