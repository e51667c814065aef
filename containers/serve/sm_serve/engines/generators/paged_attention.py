"""Attention of a continuous batch on a CPU: each request with its own tokens.

transformers lays the keys of all requests side by side and lets each new token attend to them all,
under a mask that hides those of others. So the work of a step grows with the square of the number
of requests. Here each request is computed by itself, and no mask is kept for the whole cache.
"""

from __future__ import annotations

from typing import Any

ATTENTION = "sm_serve_by_request"
"""Our attention among those of transformers."""
USUAL = "sdpa"
"""What it takes the place of."""
UNKNOWN = ("softcap", "position_bias", "s_aux")
"""What some models add to the products of queries and keys."""


def attend_by_request(model: Any) -> None:
    """Lets a model attend request by request in a paged batch, and as before elsewhere."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

    AttentionInterface.register(ATTENTION, attend)
    AttentionMaskInterface.register(ATTENTION, sdpa_mask)
    model.set_attn_implementation(ATTENTION)


def attend_as_before(model: Any) -> None:
    """Undoes `attend_by_request`."""
    if model.config._attn_implementation == ATTENTION:
        model.set_attn_implementation(USUAL)


def leave_mask(model: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """Before a pass of the batch: no mask is made where one of four dimensions is given."""
    if options.get("cache") is None or model.config._attn_implementation != ATTENTION:
        return None
    import torch

    return arguments, {**options, "attention_mask": torch.empty(1, 1, 1, 1)}


def attend(
    module: Any,
    query: Any,
    key: Any,
    value: Any,
    attention_mask: Any,
    scaling: float | None = None,
    cache: Any = None,
    **options: Any,
) -> tuple[Any, None]:
    """Attention as transformers calls it; query, key and value are [1, heads, tokens, size].

    In a paged batch those are the new tokens of all requests, one request behind the other.
    """
    import torch
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if cache is None:
        answer = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **options
        )
        return answer[0], None
    if unknown := [name for name in UNKNOWN if options.get(name) is not None]:
        raise ValueError(f"attention by request has no {unknown[0]}")
    key, value = cache.update(key, value, module.layer_idx, options)
    window = getattr(cache.layer_to_allocator[module.layer_idx], "sliding_window", None)
    lengths = [options[f"cu_seq_lens_{side}"].diff().tolist() for side in ("q", "k")]
    requests = zip(
        query.split(lengths[0], 2), key.split(lengths[1], 2), value.split(lengths[1], 2),
        strict=True,
    )  # fmt: skip
    answers = [attend_to_own(*request, scaling, window) for request in requests]
    return torch.cat(answers, 2).transpose(1, 2), None


def attend_to_own(
    query: Any, key: Any, value: Any, scaling: float | None, window: int | None
) -> Any:
    """One request's new tokens, the last of its keys, to itself and what came before."""
    import torch

    new, known = query.shape[2], key.shape[2]
    if new == 1:  # the heads that share keys side by side, in the place of tokens
        shared = query.view(1, key.shape[1], -1, query.shape[3])
        answer = torch.nn.functional.scaled_dot_product_attention(shared, key, value, scale=scaling)
        return answer.reshape(query.shape)
    plain = new == known and (window is None or known <= window)
    return torch.nn.functional.scaled_dot_product_attention(
        query, key, value,
        attn_mask=None if plain else visible(new, known, window),
        is_causal=plain,
        scale=scaling,
        enable_gqa=key.shape[1] != query.shape[1],
    )  # fmt: skip


def visible(new: int, known: int, window: int | None) -> Any:
    """[new, known]: which keys each of the last `new` tokens may see."""
    import torch

    behind = torch.arange(known - new, known)[:, None] - torch.arange(known)[None]
    return (behind >= 0) & (behind < window) if window else behind >= 0
