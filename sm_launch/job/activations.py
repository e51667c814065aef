"""What a training step holds beside weights: activations for the backward pass, and logits.

Counted tensor by tensor, as autograd keeps them for transformers' layers (`modeling_llama.py` and
`modeling_bert.py`) under autocast, PEFT's `lora.Linear`, and the heads of TRL's trainers
(`trl/kernels/chunked_logprob.py`). Tests hold it against what torch keeps for small models.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

TILE_TOKENS, TILE_WIDTH = 4096, 32_768
"""TRL's fused head computes so many tokens' logits at a time, for so much of the vocabulary."""
FULL_PRECISION, HALF_PRECISION = 4, 2
_HIDDEN = ("hidden_size", "d_model", "n_embd", "n_embed", "dim")
_LAYERS = (
    ("encoder_layers", "decoder_layers"), ("num_layers", "num_decoder_layers"),
    ("num_hidden_layers",), ("n_layer",), ("n_layers",),
)  # fmt: skip
_INNER = ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size", "d_ff", "hidden_dim",
          "encoder_ffn_dim")  # fmt: skip
_HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads", "encoder_attention_heads")
_UNGATED = frozenset({"gpt2", "gpt_neox", "bloom", "opt", "falcon", "phi", "starcoder2", "bert",
                      "roberta", "camembert", "xlm-roberta", "electra", "mpnet", "distilbert",
                      "albert", "deberta-v2", "bart", "mbart"})  # fmt: skip
"""Types whose MLP has two matrices; others' has three, as Llama's."""
_SCORED = frozenset({"t5", "mt5", "deberta-v2", "mpnet"})
"""Types whose attention adds a bias of its own, and so keeps the scores of every pair of tokens."""
HEAD_NORMED = frozenset({"qwen3", "qwen3_moe", "gemma3_text", "olmo2", "olmoe"})
"""Types that norm queries and keys."""
_TYPICAL_VOCABULARY = 128_256


@dataclass(frozen=True)
class Shape:
    """A model's layers, as far as activations depend on them.

    Attributes:
        hidden: width of what goes from layer to layer.
        layers: how many; of an encoder-decoder, of both.
        inner: width within the MLP that a token passes: of all experts that are chosen for it.
        queries: width of all heads' queries; keys: of the keys, which is less where heads share.
        heads: of the attention.
        vocabulary: of the head.
        gated: whether the MLP multiplies two of its widths with each other.
        scored: whether attention keeps the scores of every pair of tokens, whatever computes it.
        normed: whether queries and keys have norms.
    """

    hidden: int
    layers: int
    inner: int
    queries: int
    keys: int
    heads: int
    vocabulary: int
    gated: bool = True
    scored: bool = False
    normed: bool = False


def shape_of(config: Mapping[str, Any]) -> Shape | None:
    """The shape that a config.json says; None where it does not say all that it takes."""

    def read(names: tuple[str, ...], default: int = 0) -> int:
        values = (config.get(name) for name in names)
        return next((value for value in values if isinstance(value, int) and value), default)

    hidden, heads = read(_HIDDEN), read(_HEADS)
    layers = next((sum(read((each,)) for each in names) for names in _LAYERS if read(names)), 0)
    if not (hidden and heads and layers):
        return None
    if "num_layers" in config and not config.get("num_decoder_layers"):
        layers *= 2  # T5's halves are as deep as each other where it says one
    head = read(("head_dim", "d_kv"), hidden // heads)
    inner = read(_INNER, 4 * hidden)
    if chosen := read(("num_experts_per_tok",)):
        narrow = read(("moe_intermediate_size",), inner)
        inner = chosen * narrow + read(("shared_expert_intermediate_size",))
        inner += narrow * read(("n_shared_experts",))
    return Shape(
        hidden=hidden,
        layers=layers,
        inner=inner,
        queries=heads * head,
        keys=head * read(("num_key_value_heads", "num_kv_heads"), heads),
        heads=heads,
        vocabulary=read(("vocab_size",)),
        gated=config.get("model_type") not in _UNGATED,
        scored=config.get("model_type") in _SCORED,
        normed=config.get("model_type") in HEAD_NORMED,
    )


def typical(parameters: float) -> Shape:
    """A Llama of so many parameters: 12·h² a layer, and a layer for 128 of its width."""
    hidden = max(128, round((128 * parameters / 12) ** (1 / 3) / 128) * 128)
    layers = max(2, round(parameters / 12 / hidden**2))
    inner = round(8 * hidden / 3)
    heads = hidden // 128
    return Shape(hidden, layers, inner, hidden, hidden, heads, _TYPICAL_VOCABULARY)


@dataclass(frozen=True)
class Step:
    """How a step computes.

    Attributes:
        tokens: of all rows and their sequences.
        length: of a sequence.
        recomputes: whether layers keep their inputs alone, and compute the rest anew.
        rank: of the adapters; 0 where all weights are trained.
        dropout: whether adapters drop some of their inputs.
        stream: bytes of a number that goes from layer to layer: the frozen weights' type.
        computed: bytes of a number that matrices are multiplied in.
        attention: the implementation; `eager` keeps the scores of every pair of tokens.
    """

    tokens: float
    length: float
    recomputes: bool
    rank: int = 0
    dropout: bool = True
    stream: int = FULL_PRECISION
    computed: int = HALF_PRECISION
    attention: str = ""


def layer_bytes(shape: Shape, step: Step) -> float:
    """What a token leaves behind in one layer."""
    wide, full = step.computed, not step.rank
    # Autocast, and each adapter's dropout, makes its own copy of what goes into a matrix.
    shared = wide == FULL_PRECISION and (full or not step.dropout)
    entries = (2 if shared else 5 if shape.gated else 4) * shape.hidden
    inputs = entries + shape.queries + shape.inner
    # Norms compute in float32; what they give is kept where their own weights are trained.
    normed, scales = 2 * shape.hidden, 2
    if shape.normed:
        normed, scales = normed + shape.queries + shape.keys, 2 * (1 + shape.heads)
    norms = (FULL_PRECISION + (step.stream if full and shape.gated else 0)) * normed
    norms += FULL_PRECISION * scales
    # Under a mask for padding, heads that share keys get copies of them, and the layer the mask.
    flash = "flash" in step.attention
    keys, mask = (shape.keys, 0) if flash else (shape.queries, step.length)
    attention = wide * (2 * shape.queries + 2 * keys + mask) + FULL_PRECISION * shape.heads
    if shape.scored or step.attention == "eager":
        attention += (FULL_PRECISION + wide) * shape.heads * step.length
    inside = wide * (3 if shape.gated else 1) * shape.inner
    masks = 0 if shape.gated else 2 * shape.hidden
    adapters = 0.0
    if step.rank:
        matrices = 7 if shape.gated else 6
        adapters = matrices * step.rank * wide + (inputs if step.dropout else 0)
    return norms + wide * inputs + attention + inside + masks + adapters


def passing_bytes(shape: Shape, step: Step) -> float:
    """What a token needs besides while a layer is computed: gradients, copies for adapters."""
    inside = step.computed * 2 * shape.inner
    if step.rank:
        inside += (step.computed + FULL_PRECISION) * shape.inner
    attention = step.computed * 6 * shape.queries
    if shape.normed:
        attention += 2 * FULL_PRECISION * shape.queries
    return max(inside, attention) + FULL_PRECISION * shape.hidden


def activation_bytes(shape: Shape, step: Step) -> float:
    """Of all layers, at the step's fullest moment."""
    layer = layer_bytes(shape, step)
    # Besides: the embeddings, and the norm behind the last layer with its result in float32.
    ends = passing_bytes(shape, step) + 4 * FULL_PRECISION * shape.hidden
    if step.recomputes:
        return step.tokens * (shape.layers * step.stream * shape.hidden + layer + ends)
    return step.tokens * (shape.layers * layer + ends)


def tile_bytes(shape: Shape, step: Step) -> float:
    """Of TRL's fused head: a tile of logits, and its input's gradient in float32."""
    tile = min(step.tokens, TILE_TOKENS) * TILE_WIDTH * step.computed
    return tile + step.tokens * shape.hidden * (FULL_PRECISION + step.stream)


def logit_bytes(shape: Shape, step: Step, tokens: float) -> float:
    """Of a head that computes all logits: as they come, in float32, logarithms, two gradients."""
    return tokens * shape.vocabulary * (step.computed + 4 * FULL_PRECISION)
