"""How vLLM spreads a model over GPUs: no further than it must be, the rest are copies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sm_serve.artefact.artefact import Artefact

PARALLEL = frozenset(
    f"{kind}_parallel_size" for kind in ("tensor", "data", "pipeline", "prefill_context")
)
SHARE = 0.4
"""Of a GPU's memory that weights may take: the cache of keys and values wants the rest."""
VOCABULARY_STEP = 64  # vLLM pads the vocabulary to a multiple (VocabParallelEmbedding)


def spread(artefact: Artefact, config: Any) -> dict[str, int]:
    """AsyncEngineArgs' keywords: GPUs that share the model, and how many such groups there are."""
    import torch

    count = max(int(torch.cuda.device_count()), 1)
    size = tensor_parallel(config, stored_bytes(artefact.base))
    return {"tensor_parallel_size": size, "data_parallel_size": count // size}


def tensor_parallel(config: Any, weights: int | None = None) -> int:
    """How many GPUs share the model: the fewest that hold it well; all that can where none does.

    Args:
        config: of the model; every one of its widths that vLLM deals out must divide.
        weights: their size in bytes; None where it is not known.
    """
    import torch

    count = max(int(torch.cuda.device_count()), 1)
    sizes = [size for size in range(1, count + 1) if divides(config, size)]
    if weights is not None and torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory
        fitting = [size for size in sizes if weights / size <= SHARE * memory]
        return min(fitting, default=sizes[-1])
    return sizes[-1]


def divides(config: Any, size: int) -> bool:
    """Whether vLLM can deal a model out to so many GPUs: it stops where a width has a rest."""
    text = config.get_text_config()

    def width(name: str) -> int:
        return int(getattr(text, name, None) or 0)

    heads = width("num_attention_heads")
    key_values = width("num_key_value_heads") or heads
    # Of fewer key-value heads than GPUs, each is on several.
    dealt = key_values % size == 0 if key_values >= size else size % key_values == 0
    vocabulary = -(-width("vocab_size") // VOCABULARY_STEP) * VOCABULARY_STEP
    others = ("intermediate_size", "moe_intermediate_size", "shared_expert_intermediate_size")
    widths = [heads, vocabulary, *map(width, others)]
    return dealt and all(number % size == 0 for number in widths)


def stored_bytes(folder: Path) -> int:
    """The size of a model's files of weights."""
    files = [*folder.glob("*.safetensors")] or [*folder.glob("*.bin")]
    return sum(path.stat().st_size for path in files)
