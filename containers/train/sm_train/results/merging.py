"""Folding a LoRA adapter into its base model, one layer at a time.

Each layer is merged in float32 and then cast: only one is in memory twice. Whether the merged model
gives the same answers is looked at in float32 as well, so that nothing but the merge is compared.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from sm_train.errors import UserError
from sm_train.modelling.images import sample_with_image

Keep = Callable[[Any], Any]

_SAMPLE = "A short text to compare the answers on."
# Shares of the largest logit, by the type that the weights were loaded in: some models compute in
# it here and there whatever they are given. A wrong merge is far off.
_TOLERANCE = {"float32": 0.01, "float16": 0.02, "bfloat16": 0.03}
_LEAST_LOGIT = 0.1  # logits near zero are differences of larger numbers, which round
_ROUGHER = 4.0  # of the tolerance, where all is computed in the weights' own type


def merge(model: Any, tokenizer: Any, dtype: Any, export: str, keep: Keep | None = None) -> Any:
    """The base model with the adapter in its weights, which become `dtype`. `model` is used up.

    Args:
        model: a PEFT model whose base is neither quantised nor in shards.
        export: the setting, for messages.
        keep: takes each finished tensor and gives back the one to hold, maybe stored elsewhere.

    Raises UserError where the merged model would answer otherwise, or a weight becomes too large
    for its type.
    """
    from sm_train.log import print_line

    model.eval()
    difference = check_merge(model, tokenizer, export)
    for layer in _tuned_layers(model):
        own = _floating(layer.get_base_layer())
        for parameter in own:
            parameter.data = _in_float32(parameter.data)
        layer.merge()
        for parameter in own:
            parameter.data = _finished(parameter.data, dtype, keep)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that all is merged already
        merged = model.merge_and_unload()
    cast(merged, dtype, keep)
    print_line(f"merged the adapter: largest change of a logit {difference:.2g}")
    return merged


def cast(model: Any, dtype: Any, keep: Keep | None = None) -> None:
    """Make every weight of a model `dtype`, one after the other. UserError as `merge` raises it."""
    for parameter in model.parameters():
        if parameter.is_floating_point() and parameter.dtype != dtype:
            parameter.data = _finished(parameter.data, dtype, keep)


def _finished(value: Any, dtype: Any, keep: Keep | None) -> Any:
    narrow = narrowed(value, dtype)
    return narrow if keep is None else keep(narrow)


def narrowed(value: Any, dtype: Any) -> Any:
    """A weight in another type. UserError where float16 cannot hold it."""
    import torch

    narrow = value.to(dtype)
    if (
        dtype == torch.float16
        and not bool(narrow.isfinite().all())
        and bool(value.isfinite().all())
    ):
        raise UserError(
            f"a weight of {float(value.abs().max()):.3g} is too large for float16",
            field="dtype",
            value="float16",
            fix="set dtype to bfloat16 or float32",
        )
    return narrow


def _in_float32(value: Any) -> Any:
    """A copy: the original may be a file's, or is needed again."""
    import torch

    return value.to(torch.float32, copy=True)


def _floating(module: Any) -> list[Any]:
    """A module's own weights, without those of the modules in it."""
    return [p for p in module.parameters(recurse=False) if p.is_floating_point()]


def _tuned_layers(model: Any) -> list[Any]:
    from peft.tuners.tuners_utils import BaseTunerLayer

    return [part for part in model.modules() if isinstance(part, BaseTunerLayer)]


def check_merge(model: Any, tokenizer: Any, export: str) -> float:
    """The largest change of a logit when every layer is merged, which none stays.

    Raises UserError where it is too large.
    """
    seeing = hasattr(tokenizer, "image_processor")
    sample = (
        sample_with_image(tokenizer, _SAMPLE) if seeing else tokenizer(_SAMPLE, return_tensors="pt")
    )
    sample = {key: value.to(model.device) for key, value in sample.items()}
    if model.config.is_encoder_decoder:
        sample["decoder_input_ids"] = sample["input_ids"]
    loaded = str(next(model.get_base_model().parameters()).dtype).removeprefix("torch.")
    tolerance, least = _TOLERANCE.get(loaded, 0.01), _LEAST_LOGIT
    with _plain_attention(model.get_base_model()):
        try:
            before, after = (_logits(model, sample, merged=merged) for merged in (False, True))
        except (RuntimeError, TypeError, ValueError):  # a model that insists on its weights' type
            before, after = (
                _logits(model, sample, merged=merged, widen=False) for merged in (False, True)
            )
            tolerance, least = tolerance * _ROUGHER, 1.0
    difference, largest = float((before - after).abs().max()), float(before.abs().max())
    if not difference <= tolerance * max(least, largest):
        raise UserError(
            f"merging the adapter changed the logits by {difference:.3g}, the largest of which is "
            f"{largest:.3g} (weights loaded as {loaded})",
            field="export",
            value=export,
            fix="set export to adapter",
        )
    return difference


@contextmanager
def _plain_attention(base: Any) -> Iterator[None]:
    """FlashAttention takes half precision alone, and would round what is compared."""
    chosen = str(getattr(base.config, "_attn_implementation", ""))
    if "flash" not in chosen:
        yield
        return
    try:
        base.set_attn_implementation("sdpa")
    except ValueError:
        base.set_attn_implementation("eager")
    try:
        yield
    finally:
        base.set_attn_implementation(chosen)


def _logits(model: Any, sample: dict[str, Any], *, merged: bool, widen: bool = True) -> Any:
    """A model's logits; a span model gives two sets of them."""
    import torch

    with torch.no_grad(), ExitStack() as hooks:
        if widen:
            hooks.enter_context(_computed_in_float32(model))
        if merged:
            hooks.enter_context(_merged_in_passing(model, widen))
        output = model(**sample)
    if "logits" in output:
        return output.logits.float()
    return torch.stack([output.start_logits, output.end_logits]).float()


@contextmanager
def _computed_in_float32(model: Any) -> Iterator[None]:
    """Each module has its weights and what it is given in float32 for as long as it runs."""
    import torch
    from torch.utils._pytree import tree_map

    def wide(value: Any) -> Any:
        half = isinstance(value, torch.Tensor) and value.dtype in (torch.float16, torch.bfloat16)
        return value.float() if half else value

    def begin(module: Any, given: Any, named: Any) -> Any:
        before[id(module)] = [(own, own.data) for own in _floating(module)]
        for own, value in before[id(module)]:
            own.data = value.float()
        return tree_map(wide, given), tree_map(wide, named)

    def end(module: Any, _given: Any, _result: Any) -> None:
        for own, value in before.pop(id(module), ()):
            own.data = value

    before: dict[int, list[tuple[Any, Any]]] = {}
    with _hooked([part for part in model.modules() if _floating(part)], begin, end, named=True):
        yield


@contextmanager
def _merged_in_passing(model: Any, widen: bool) -> Iterator[None]:
    """Each adapted layer is merged, in a copy of its weights, for as long as it runs."""

    def begin(layer: Any, _given: Any) -> None:
        own = _floating(layer.get_base_layer())
        before[id(layer)] = [(one, one.data) for one in own]
        for one in own:
            one.data = _in_float32(one.data) if widen else one.data.clone()
        layer.merge()

    def end(layer: Any, _given: Any, _result: Any) -> None:
        layer.merged_adapters.clear()
        for one, value in before.pop(id(layer), ()):
            one.data = value

    before: dict[int, list[tuple[Any, Any]]] = {}
    with _hooked(_tuned_layers(model), begin, end):
        yield


@contextmanager
def _hooked(modules: list[Any], begin: Any, end: Any, *, named: bool = False) -> Iterator[None]:
    """`begin` before each module runs and `end` after it, even where it fails."""
    handles = [part.register_forward_pre_hook(begin, with_kwargs=named) for part in modules]
    handles += [part.register_forward_hook(end, always_call=True) for part in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
