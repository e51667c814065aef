"""Sizes in config.json against the shapes of the weights, read off their headers without torch.

A model is built from its config before its weights are looked at: ten million layers would be built
for minutes and take all memory, only to be found missing.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sm_serve.errors import StartupError

LAYERS = (
    *("num_hidden_layers", "num_layers", "n_layer", "n_layers", "num_decoder_layers"),
    *("num_encoder_layers", "encoder_layers", "decoder_layers", "num_hidden_groups"),
)
SHARED_LAYERS = 128
"""Models that use one layer's weights many times (ALBERT) use them no more often."""
WIDTHS = (
    *("vocab_size", "type_vocab_size", "hidden_size", "embedding_size", "d_model", "n_embd"),
    *("dim", "hidden_dim", "intermediate_size", "moe_intermediate_size", "d_ff", "d_kv"),
    *(
        "ffn_dim",
        "encoder_ffn_dim",
        "decoder_ffn_dim",
        "n_inner",
        "head_dim",
        "word_embed_proj_dim",
    ),
    *("num_attention_heads", "num_key_value_heads", "num_heads", "n_head", "n_heads"),
    *("encoder_attention_heads", "decoder_attention_heads", "num_labels", "num_experts"),
    *("num_local_experts", "relative_attention_num_buckets"),
)
POSITIONS = (
    "max_position_embeddings",
    "n_positions",
    "n_ctx",
    "max_seq_len",
    "max_sequence_length",
)
MOST_POSITIONS = 2**24
"""Of models that compute positions and have no table of them."""
HEADER_BYTES = 100_000_000
"""safetensors' own limit."""


@dataclass(frozen=True, slots=True)
class Shapes:
    """What the tensors' names and shapes tell."""

    largest: int
    layers: int
    learned_positions: bool


def check_sizes(config: Mapping[str, Any], base: Path) -> None:
    """Raises StartupError for a size that no tensor of the model's weights can have."""
    shapes = read_shapes(base)
    if shapes is None:
        return
    for name, value in _numbers(config):
        field = name.rpartition(".")[2]
        if field in LAYERS:
            most, what = max(shapes.layers, SHARED_LAYERS), f"layers up to number {shapes.layers}"
        elif field in WIDTHS or (field in POSITIONS and shapes.learned_positions):
            most, what = shapes.largest, f"no side longer than {shapes.largest}"
        elif field in POSITIONS:
            most, what = MOST_POSITIONS, f"no more than {MOST_POSITIONS} positions can be served"
        else:
            continue
        if not value <= most:
            told = what if field in POSITIONS and not shapes.learned_positions else (
                f"its weights have {what}"
            )  # fmt: skip
            raise StartupError(
                f"{base / 'config.json'}: {name}={value} cannot be this model's, {told}: save model"
                " and config again, together"
            )


def read_shapes(base: Path) -> Shapes | None:
    """Of all safetensors files; None without any. Raises StartupError for a damaged one."""
    largest = layers = 0
    learned = False
    files = sorted(base.glob("*.safetensors"))
    for path in files:
        for name, entry in read_header(path).items():
            if name == "__metadata__":
                continue
            shape = entry.get("shape") if isinstance(entry, dict) else None
            largest = max([largest, *(side for side in shape or () if isinstance(side, int))])
            numbers = [int(part) for part in name.split(".") if part.isdecimal() and len(part) < 9]
            layers = max([layers, *(number + 1 for number in numbers)])
            learned |= ("wpe" in name or "position" in name) and not _of_tower(name)
    return Shapes(largest, layers, learned) if files else None


def _of_tower(name: str) -> bool:
    """Whether a tensor belongs to the part that reads images or sound: the positions of the text,
    which are as many as its longest prompt, are another table, or computed."""
    return any(part in name for part in ("vision", "visual", "image", "audio"))


def read_header(path: Path) -> dict[str, Any]:
    """Names, types and shapes of a safetensors file's tensors. StartupError for a damaged one."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > HEADER_BYTES:
                raise ValueError("its header is too long")
            header = json.loads(file.read(length))
            held = path.stat().st_size - file.tell()
        if not isinstance(header, dict):
            raise ValueError("its header is no object")
        if (missing := _last_byte(header) - held) > 0:
            raise ValueError(f"its last {missing} bytes are missing")
    except (OSError, ValueError, struct.error, RecursionError) as error:
        raise StartupError(f"{path} is damaged ({error}): save the model again") from error
    return header


def _last_byte(header: Mapping[str, Any]) -> int:
    """Where the data of the last tensor ends, counted from the header's end."""
    places = [entry.get("data_offsets") for entry in header.values() if isinstance(entry, dict)]
    ends = [end for place in places if isinstance(place, list) for end in place]
    return max([0, *(end for end in ends if isinstance(end, int))])


def _numbers(config: Mapping[str, Any], where: str = "") -> Iterator[tuple[str, int | float]]:
    for name, value in config.items():
        if isinstance(value, dict):
            yield from _numbers(value, f"{where}{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{where}{name}", value
