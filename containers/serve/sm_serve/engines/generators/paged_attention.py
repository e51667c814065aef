"""Attention of a continuous batch on a CPU: each request with its own tokens.

transformers lays the keys of all requests side by side and lets each new token attend to them all,
under a mask that hides those of others. So the work of a step grows with the square of the number
of requests. Here each request is computed by itself, or with those that are about as long, and no
mask is kept for the whole cache.
"""

from __future__ import annotations

from typing import Any

from sm_serve.engines.generators.attention_plan import Group, plan_step

ATTENTION = "sm_serve_by_request"
"""Our attention among those of transformers."""
USUAL = "sdpa"
"""What it takes the place of."""
UNKNOWN = ("softcap", "position_bias", "s_aux")
"""What some models add to the products of queries and keys."""
PLANS = "sm_serve_plans"
"""Under this name a pass tells its layers how they are to attend."""
Pair = tuple[Any, Any]
"""Keys and values."""


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


def before_pass(model: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """Before a pass of the batch: it is planned once for all layers, and no mask is made, as none
    is where one of four dimensions is given."""
    if options.get("cache") is None or model.config._attn_implementation != ATTENTION:
        return None
    import torch

    new = options["cu_seq_lens_q"].diff().tolist()
    plans = {}
    for kind in options["cache"].cache_allocators.values():
        index = options["read_index"][kind.index]
        known = options["cu_seq_lens_k"][kind.layer_type].diff().tolist()
        # Without keys in the cache there are the new ones alone; a window's are told by itself.
        grouped = len(index) > 0 and kind.supports_block_table
        plans[kind.index] = plan_step(new, known, index, grouped=grouped)
    return arguments, {**options, "attention_mask": torch.empty(1, 1, 1, 1), PLANS: plans}


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
    kind = cache.layer_to_allocator[module.layer_idx]
    plan = options[PLANS][kind.index]
    tokens = query[0].transpose(0, 1)
    answer = torch.empty_like(tokens, memory_format=torch.contiguous_format)
    if plan.groups:
        write = options["write_index"][kind.index]
        stored = write_keys(kind.get_cache_for_block_table(module.layer_idx), (key, value), write)
        for group in plan.groups:
            made = attend_group(group, tokens, stored, scaling)
            if group.rows is None:
                return made[None], None
            answer[group.rows] = made
        parts = ((it, read_keys(stored, it.index, 1)) for it in plan.pieces)
    else:
        key, value = cache.update(key, value, module.layer_idx, options)
        parts = ((it, (key[:, :, it.known], value[:, :, it.known])) for it in plan.pieces)
    window = getattr(kind, "sliding_window", None)
    for piece, (keys, values) in parts:
        made = attend_to_own(query[:, :, piece.new], keys, values, scaling, window)
        answer[piece.new] = made[0].transpose(0, 1)
    return answer[None], None


def write_keys(pages: Pair, new: Pair, index: Any) -> Pair:
    """A layer's cached keys and values, [tokens, heads, size], with those of the new tokens."""
    keys, values = (each.flatten(0, 1) for each in pages)
    keys.index_copy_(0, index, new[0][0].transpose(0, 1))
    values.index_copy_(0, index, new[1][0].transpose(0, 1))
    return keys, values


def read_keys(stored: Pair, index: Any, requests: int) -> Pair:
    """Keys and values of as many requests of one length, [requests, heads, tokens, size]."""
    keys, values = (
        each.index_select(0, index).view(requests, -1, *each.shape[1:]).transpose(1, 2)
        for each in stored
    )
    return keys, values


def attend_group(group: Group, tokens: Any, stored: Pair, scaling: float | None) -> Any:
    """The answers of requests with one new token each, [requests, heads, size] like the tokens."""
    import torch

    keys, values = read_keys(stored, group.index, group.requests)
    own = tokens if group.rows is None else tokens[group.rows]
    # The heads that share keys side by side, in the place of tokens.
    shared = own.reshape(group.requests, keys.shape[1], -1, own.shape[-1])
    answer = torch.nn.functional.scaled_dot_product_attention(
        shared, keys, values, attn_mask=group.mask, scale=scaling
    )
    return answer.reshape(own.shape)


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
