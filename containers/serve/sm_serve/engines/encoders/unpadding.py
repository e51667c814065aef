"""Encoders without padding: the layers compute the tokens of a batch and nothing else.

Texts of a batch differ in length; computed as a rectangle, a third or half of it is padding. So the
rows that enter a model's stack of layers are laid out one text behind the other, and become a
rectangle again behind it, for the pooling and the head. Attention takes each text by itself.
"""

from __future__ import annotations

import logging
from typing import Any

logger = logging.getLogger(__name__)

ATTENTION = "sm_serve_unpadded"
"""Our attention among those of transformers."""
STACKS = ("encoder", "transformer")
"""What models call the module that holds their layers."""
PROBE_LENGTHS = (9, 3, 5, 1)
TOLERANCE, HALF_TOLERANCE = 1e-4, 0.05
"""What answers may differ by in float32 and in 16 bits, in shares of the largest."""


class Rows:
    """Where the tokens of a padded batch are. Goes through the layers as their attention mask."""

    def __init__(self, mask: Any) -> None:
        self.shape = tuple(mask.shape)
        self.index = mask.flatten().nonzero().squeeze(1)
        self.lengths: list[int] = mask.sum(1).tolist()

    def pack(self, padded: Any) -> Any:
        """[texts, width, size] to [1, tokens, size]."""
        return padded.flatten(0, 1).index_select(0, self.index)[None]

    def unpack(self, packed: Any) -> Any:
        """[1, tokens, size] to [texts, width, size], zeros where padding was."""
        texts, width = self.shape
        padded = packed.new_zeros(texts * width, packed.shape[-1])
        return padded.index_copy_(0, self.index, packed[0]).view(texts, width, -1)


def remove_padding(model: Any) -> bool:
    """Lets a model on a CPU compute no padding, and returns whether it does.

    Tried on a small batch: a model that cannot, or answers otherwise, stays as it was.
    """
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    stack = find_stack(model)
    usual = model.config._attn_implementation
    if stack is None or usual != "sdpa" or model.device.type != "cpu":
        return False
    AttentionInterface.register(ATTENTION, attend)
    AttentionMaskInterface.register(ATTENTION, find_rows)
    hooks = [
        stack.register_forward_pre_hook(_pack, with_kwargs=True),
        stack.register_forward_hook(_unpack, with_kwargs=True),
    ]
    try:
        before = probe(model)
        model.set_attn_implementation(ATTENTION)
        if agree(before, probe(model), TOLERANCE if is_float32(model) else HALF_TOLERANCE):
            return True
        logger.info("batches are padded: without, this model answers otherwise")
    except Exception as error:
        logger.info("batches are padded: this model is not made to do without (%s)", error)
    model.set_attn_implementation(usual)
    for hook in hooks:
        hook.remove()
    return False


def find_stack(model: Any) -> Any:
    """The module that takes hidden states through all layers; None where there is none."""
    children = dict(model.base_model.named_children())
    return next((children[name] for name in STACKS if name in children), None)


def find_rows(*_: Any, attention_mask: Any = None, **__: Any) -> Rows | None:
    """In the place of a mask where the tokens are; None where nothing is padding."""
    if attention_mask is None or bool(attention_mask.all()):
        return None
    return Rows(attention_mask)


def attend(
    module: Any, query: Any, key: Any, value: Any, attention_mask: Rows | None, **options: Any
) -> tuple[Any, None]:
    """Attention within each text; query, key and value are [1, heads, tokens, size].

    Without Rows they are a rectangle of texts of one length, as everywhere in transformers.
    """
    import torch
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if attention_mask is None:
        answer = sdpa_attention_forward(module, query, key, value, None, **options)
        return answer[0], None
    parts = (part.split(attention_mask.lengths, 2) for part in (query, key, value))
    texts = [
        torch.nn.functional.scaled_dot_product_attention(*text, scale=options.get("scaling"))
        for text in zip(*parts, strict=True)
    ]
    return torch.cat(texts, 2).transpose(1, 2), None


def _pack(_: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    rows = _rows_of(arguments, options)
    if rows is None:
        return None
    if arguments:
        return (rows.pack(arguments[0]), *arguments[1:]), options
    return (), {**options, "hidden_states": rows.pack(options["hidden_states"])}


def _unpack(_: Any, arguments: tuple[Any, ...], options: dict[str, Any], output: Any) -> Any:
    rows = _rows_of(arguments, options)
    if rows is not None:
        output.last_hidden_state = rows.unpack(output.last_hidden_state)
    return output


def _rows_of(arguments: tuple[Any, ...], options: dict[str, Any]) -> Rows | None:
    """The stack's mask, which some models give by position and some by name."""
    values = (*arguments, *options.values())
    return next((value for value in values if isinstance(value, Rows)), None)


def probe(model: Any) -> list[Any]:
    """What the model answers to a few texts of different lengths, their padding left out."""
    import torch

    width = max(PROBE_LENGTHS)
    mask = torch.tensor([[1] * n + [0] * (width - n) for n in PROBE_LENGTHS])
    ids = torch.arange(mask.numel()).view_as(mask) % model.config.vocab_size
    with torch.inference_mode():
        rows = model(input_ids=ids, attention_mask=mask)[0].float()
    # A row for each text, or for each token.
    return [
        row[:count] if row.shape[0] == width else row
        for row, count in zip(rows, PROBE_LENGTHS, strict=True)
    ]


def is_float32(model: Any) -> bool:
    """Whether the model computes in float32."""
    import torch

    return bool(model.dtype is torch.float32)


def agree(before: list[Any], after: list[Any], tolerance: float) -> bool:
    """Whether two probes are the same but for rounding."""
    import torch

    largest = max(float(row.abs().max()) for row in before)
    return all(
        torch.allclose(one, other, rtol=0, atol=tolerance * largest)
        for one, other in zip(before, after, strict=True)
    )
