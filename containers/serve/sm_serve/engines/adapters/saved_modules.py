"""Modules that an adapter brings in full (`modules_to_save`), such as a classifier's head."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sm_serve.artefact.adapter_head import HEADS, PREFIX
from sm_serve.errors import BadRequest


def build_modules(
    model: Any, names: Sequence[str], tensors: Mapping[str, Any], *, resizable: bool
) -> dict[str, Any]:
    """The adapter's own modules by their place in the model, which is left as it is.

    `names` are those in modules_to_save, `resizable` lets the last layer of a head have another
    size than the model's. Raises BadRequest for tensors that do not fit.
    """
    grouped: dict[str, dict[str, Any]] = {}
    for key, tensor in tensors.items():
        place, inside = _place(key, names)
        grouped.setdefault(place, {})[inside] = tensor
    return {
        place: _build(model, place, inside, resizable=resizable)
        for place, inside in grouped.items()
    }


def _place(key: str, names: Sequence[str]) -> tuple[str, str]:
    """The saved module that a tensor belongs to, and the tensor's name in it."""
    parts = key.removeprefix(PREFIX).split(".")
    for end in range(1, len(parts)):
        place = ".".join(parts[:end])
        # As PEFT compares them: "classifier" is "pre_classifier" too.
        if any(place.endswith(name) for name in names):
            return place, ".".join(parts[end:])
    raise BadRequest(
        f"the adapter holds {key}, which is neither plain LoRA nor in its modules_to_save: merge it"
    )


def _build(model: Any, place: str, tensors: dict[str, Any], *, resizable: bool) -> Any:
    from torch import nn

    try:
        base = model.get_submodule(place)
    except AttributeError as error:
        raise BadRequest(
            f"the adapter brings {place}, which this model does not have: it was trained for"
            " another one"
        ) from error
    memo: dict[int, Any] = {}
    for inside, layer in base.named_modules():
        dense = getattr(layer, "base", layer)  # another adapter may change the model's own
        if isinstance(dense, nn.Linear):
            name = f"{inside}.weight".lstrip(".")
            last = resizable and f".{place}.{name}".endswith(tuple(f".{head}" for head in HEADS))
            memo[id(layer)] = _empty(dense, tensors.get(name) if last else None)
    # Linear layers are made anew: the model's may be packed, and have no weights to copy.
    module = copy.deepcopy(base, memo)
    try:
        module.load_state_dict(tensors, assign=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split("\n\t")[1:2])[:300]
        raise BadRequest(
            f"the adapter's {place} does not fit this model, it was trained for another: {reason}"
        ) from error
    like = next(base.parameters())
    return module.to(like.device, like.dtype).requires_grad_(False).eval()


def _empty(layer: Any, weight: Any) -> Any:
    """A linear layer without memory; `weight` gives it as many outputs as it has itself."""
    from torch import nn

    outputs = layer.out_features if weight is None or weight.dim() != 2 else weight.shape[0]
    return nn.Linear(layer.in_features, outputs, bias=layer.bias is not None, device="meta")


@contextlib.contextmanager
def swapped(model: Any, modules: Mapping[str, Any]) -> Iterator[None]:
    """Inside, these modules stand in the places of the model's own."""
    own = []
    try:
        for place, module in modules.items():
            parent, _, leaf = place.rpartition(".")
            owner = model.get_submodule(parent)
            own.append((owner, leaf, getattr(owner, leaf)))
            setattr(owner, leaf, module)
        yield
    finally:
        for owner, leaf, module in reversed(own):
            setattr(owner, leaf, module)
