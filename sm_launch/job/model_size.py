"""How many parameters a model has, by its own config.json: counted layer by layer, without weights.

Sources are transformers' `modeling_*.py` of each type; a test builds every type there on the meta
device and holds this count against its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sm_launch.job import encoder_sizes
from sm_launch.job.matrices import Linear, Reader, Size, layer_norms, size_of

Parts = Iterator[Linear | int]


@dataclass(frozen=True)
class Decoder:
    """Where a decoder with rotary positions, RMS norms and gated MLPs parts from Llama.

    Attributes:
        qkv_bias: of these three; None follows `attention_bias`.
        o_bias: likewise.
        norms: of a layer, each as wide as the model.
        head_norms: of queries and keys: by `head`, over all of them (`whole`), or none.
        fused: one matrix makes queries, keys and values, and one makes gate and up.
        tied: whether the head shares the embedding's weights where the config does not say.
        experts: the config's key for how many there are; empty: none.
        expert_width: its key for their width.
        adapted: whether PEFT's all-linear takes the experts as well.
    """

    qkv_bias: bool | None = None
    o_bias: bool | None = None
    norms: int = 2
    head_norms: str = ""
    fused: bool = False
    tied: bool = False
    experts: str = ""
    expert_width: str = "intermediate_size"
    adapted: bool = True


_LIKE_LLAMA = {
    "llama": Decoder(),
    "mistral": Decoder(False, False),
    "ministral": Decoder(False, False),
    "granite": Decoder(),
    "smollm3": Decoder(tied=True),
    "qwen2": Decoder(True, False),
    "qwen3": Decoder(head_norms="head"),
    "gemma": Decoder(tied=True),
    "gemma2": Decoder(norms=4, tied=True),
    "gemma3_text": Decoder(norms=4, head_norms="head", tied=True),
    "olmo2": Decoder(head_norms="whole"),
    "phi3": Decoder(False, False, fused=True),
    "mixtral": Decoder(False, False, experts="num_local_experts"),
    "olmoe": Decoder(head_norms="whole", experts="num_experts"),
    "qwen2_moe": Decoder(
        True,
        False,
        experts="num_experts",
        expert_width="moe_intermediate_size",
        adapted=False,
    ),
    "qwen3_moe": Decoder(
        head_norms="head", experts="num_experts", expert_width="moe_intermediate_size"
    ),
}


def count(config: Mapping[str, Any]) -> Size | None:
    """The size of the model that a config.json describes; None for a type that is not known here.

    Language models are counted with their head, encoders with that of a classifier of two labels.
    """
    inner = config.get("text_config")
    if isinstance(inner, Mapping) and not config.get("vision_config"):
        config = {"tie_word_embeddings": config.get("tie_word_embeddings", True), **inner}
    kind = str(config.get("model_type") or "")
    parts = _OTHERS.get(kind) or encoder_sizes.TYPES.get(kind)
    if kind in _LIKE_LLAMA:
        like = _LIKE_LLAMA[kind]
        return size_of(lambda read: _like_llama(read, like), config)
    return size_of(parts, config) if parts else None


def _like_llama(read: Reader, kind: Decoder) -> Parts:
    hidden, layers = read("hidden_size"), read("num_hidden_layers")
    heads = read("num_attention_heads")
    groups = read("num_key_value_heads", heads)
    head = read("head_dim", hidden // heads)
    queries, keys = heads * head, groups * head
    biases = bool(read("attention_bias", 0))
    qkv = bool(read("qkv_bias", kind.qkv_bias)) if kind.qkv_bias is not None else biases
    if kind.fused:
        yield Linear(hidden, queries + 2 * keys, layers, qkv)
    else:
        yield Linear(hidden, queries, layers, qkv)
        yield Linear(hidden, keys, 2 * layers, qkv)
    yield Linear(queries, hidden, layers, biases if kind.o_bias is None else kind.o_bias)
    yield layers * {"head": 2 * head, "whole": queries + keys, "": 0}[kind.head_norms]
    yield layers * kind.norms * hidden + hidden
    sparse = _sparse_layers(read, layers) if kind.experts else 0
    yield from _gated(read, kind, hidden, layers - sparse)
    if sparse:
        yield from _experts(read, kind, hidden, sparse)
    yield from _vocabulary(read, hidden, kind.tied)


def _gated(read: Reader, kind: Decoder, hidden: int, layers: int) -> Parts:
    inner, bias = read("intermediate_size"), bool(read("mlp_bias", 0))
    wide = 2 if kind.fused else 1
    yield Linear(hidden, inner * wide, layers * (2 // wide), bias)
    yield Linear(inner, hidden, layers, bias)


def _sparse_layers(read: Reader, layers: int) -> int:
    plain = set(read.values.get("mlp_only_layers") or ())
    step = read("decoder_sparse_step", 1)
    return sum(1 for at in range(layers) if at not in plain and (at + 1) % step == 0)


def _experts(read: Reader, kind: Decoder, hidden: int, layers: int) -> Parts:
    experts = read(kind.experts, read.values.get("num_local_experts"))
    yield from _routed(hidden, read(kind.expert_width), layers, experts, kind.adapted)
    if shared := read("shared_expert_intermediate_size", 0):
        yield Linear(hidden, shared, 2 * layers)
        yield Linear(shared, hidden, layers)
        yield Linear(hidden, 1, layers)


def _routed(hidden: int, inner: int, layers: int, experts: int, adapted: bool) -> Parts:
    """A router and its experts; gate and up are one tensor."""
    yield Linear(hidden, experts, layers, rank=int(adapted))
    yield Linear(hidden, 2 * inner, layers * experts, rank=2 * adapted)
    yield Linear(inner, hidden, layers * experts, rank=int(adapted))


def _vocabulary(read: Reader, width: int, tied: bool) -> Parts:
    once = read("vocab_size") * width
    yield once if read("tie_word_embeddings", tied) else 2 * once


def _gpt_oss(read: Reader) -> Parts:
    hidden, layers, heads = (
        read("hidden_size"),
        read("num_hidden_layers"),
        read("num_attention_heads"),
    )
    head, inner = read("head_dim", 64), read("intermediate_size")
    groups, experts = read("num_key_value_heads", heads), read("num_local_experts")
    yield Linear(hidden, heads * head, layers, True)
    yield Linear(hidden, groups * head, 2 * layers, True)
    yield Linear(heads * head, hidden, layers, True)
    yield layers * (heads + 2 * hidden + (hidden + 1) * experts) + hidden
    yield Linear(hidden, 2 * inner, layers * experts, True, rank=0)
    yield Linear(inner, hidden, layers * experts, True, rank=0)
    yield from _vocabulary(read, hidden, False)


def _deepseek(read: Reader) -> Parts:
    """Keys and values of all heads by way of a narrow vector; the first layers have no experts."""
    hidden, layers, heads = (
        read("hidden_size"),
        read("num_hidden_layers"),
        read("num_attention_heads"),
    )
    rotary, plain, value = read("qk_rope_head_dim"), read("qk_nope_head_dim"), read("v_head_dim")
    narrow, rank = read("kv_lora_rank"), read("q_lora_rank", 0)
    queries = heads * (rotary + plain)
    if rank:
        yield Linear(hidden, rank, layers)
        yield Linear(rank, queries, layers)
        yield layers * rank
    else:
        yield Linear(hidden, queries, layers)
    yield Linear(hidden, narrow + rotary, layers)
    yield Linear(narrow, heads * (plain + value), layers)
    yield Linear(heads * value, hidden, layers)
    yield layers * (narrow + 2 * hidden) + hidden
    dense = min(read("first_k_dense_replace", 0), layers)
    inner, small, experts = (
        read("intermediate_size"),
        read("moe_intermediate_size"),
        read("n_routed_experts"),
    )
    yield Linear(hidden, inner, 2 * dense)
    yield Linear(inner, hidden, dense)
    shared, sparse = small * read("n_shared_experts", 0), layers - dense
    yield Linear(hidden, shared, 2 * sparse)
    yield Linear(shared, hidden, sparse)
    yield from _routed(hidden, small, sparse, experts, True)
    yield from _vocabulary(read, hidden, False)


def _plain(
    read: Reader, hidden: int, layers: int, inner: int, qkv: int, bias: bool, norms: int
) -> Parts:
    """Layers with an MLP of two matrices and norms with a bias; queries, keys and values in one."""
    yield Linear(hidden, qkv, layers, bias)
    yield Linear(hidden, hidden, layers, bias)
    yield Linear(hidden, inner, layers, bias)
    yield Linear(inner, hidden, layers, bias)
    yield layer_norms(hidden, layers * norms + 1)


def _gpt2(read: Reader) -> Parts:
    hidden, layers = read("n_embd"), read("n_layer")
    yield from _plain(read, hidden, layers, read("n_inner", 4 * hidden), 3 * hidden, True, 2)
    yield read("n_positions", 1024) * hidden
    yield from _vocabulary(read, hidden, True)


def _gpt_neox(read: Reader) -> Parts:
    hidden, layers = read("hidden_size"), read("num_hidden_layers")
    bias = bool(read("attention_bias", 1))
    yield Linear(hidden, 3 * hidden, layers, bias)
    yield Linear(hidden, hidden, layers, bias)
    yield Linear(hidden, read("intermediate_size"), layers, True)
    yield Linear(read("intermediate_size"), hidden, layers, True)
    yield layer_norms(hidden, 2 * layers + 1)
    yield from _vocabulary(read, hidden, False)


def _bloom(read: Reader) -> Parts:
    hidden = read("hidden_size", read.values.get("n_embed"))
    layers = read("n_layer", read.values.get("num_hidden_layers"))
    yield from _plain(read, hidden, layers, 4 * hidden, 3 * hidden, True, 2)
    yield layer_norms(hidden, 1)
    yield from _vocabulary(read, hidden, True)


def _opt(read: Reader) -> Parts:
    hidden, layers = read("hidden_size"), read("num_hidden_layers")
    bias, narrow = bool(read("enable_bias", 1)), read("word_embed_proj_dim", hidden)
    yield Linear(hidden, hidden, 4 * layers, bias)
    yield Linear(hidden, read("ffn_dim"), layers, bias)
    yield Linear(read("ffn_dim"), hidden, layers, bias)
    final = bool(read("do_layer_norm_before", 1)) and not read("_remove_final_layer_norm", 0)
    yield layer_norms(hidden, 2 * layers + final)
    if narrow != hidden:
        yield Linear(narrow, hidden, 2)
    yield (read("max_position_embeddings") + 2) * hidden
    yield from _vocabulary(read, narrow, True)


def _falcon(read: Reader) -> Parts:
    hidden = read("hidden_size")
    layers = read("num_hidden_layers", read.values.get("n_layer"))
    heads = read("num_attention_heads", read.values.get("n_head"))
    head, new = hidden // heads, bool(read("new_decoder_architecture", 0))
    groups = read("num_kv_heads", heads) if new else 1
    few = new or read("multi_query", 1)
    qkv = hidden + 2 * groups * head if few else 3 * hidden
    own = read("num_ln_in_parallel_attn", 2) if new else 0
    norms = own or (1 if read("parallel_attn", 1) else 2)
    inner = read("ffn_hidden_size", 4 * hidden)
    yield from _plain(read, hidden, layers, inner, qkv, bool(read("bias", 0)), norms)
    yield from _vocabulary(read, hidden, True)


def _phi(read: Reader) -> Parts:
    hidden, layers = read("hidden_size"), read("num_hidden_layers")
    heads = read("num_attention_heads")
    keys = read("num_key_value_heads", heads) * (hidden // heads)
    yield Linear(hidden, hidden, 2 * layers, True)
    yield Linear(hidden, keys, 2 * layers, True)
    yield Linear(hidden, read("intermediate_size"), layers, True)
    yield Linear(read("intermediate_size"), hidden, layers, True)
    yield layer_norms(hidden, layers + 1)
    yield read("vocab_size")
    yield from _vocabulary(read, hidden, False)


def _starcoder2(read: Reader) -> Parts:
    hidden, layers = read("hidden_size"), read("num_hidden_layers")
    heads = read("num_attention_heads")
    head = read("head_dim", hidden // heads)
    bias, inner = bool(read("use_bias", 1)), read("intermediate_size")
    yield Linear(hidden, heads * head, layers, bias)
    yield Linear(hidden, read("num_key_value_heads", heads) * head, 2 * layers, bias)
    yield Linear(heads * head, hidden, layers, bias)
    yield Linear(hidden, inner, layers, bias)
    yield Linear(inner, hidden, layers, bias)
    yield layer_norms(hidden, 2 * layers + 1)
    yield from _vocabulary(read, hidden, True)


_OTHERS: Mapping[str, Callable[[Reader], Parts]] = {
    "gpt_oss": _gpt_oss,
    "deepseek_v3": _deepseek,
    "deepseek_v2": _deepseek,
    "kimi_k2": _deepseek,
    "gpt2": _gpt2,
    "gpt_neox": _gpt_neox,
    "bloom": _bloom,
    "opt": _opt,
    "falcon": _falcon,
    "phi": _phi,
    "starcoder2": _starcoder2,
}


def known_types() -> frozenset[str]:
    """The values of `model_type` that are counted here."""
    return frozenset({*_LIKE_LLAMA, *_OTHERS, *encoder_sizes.TYPES})
