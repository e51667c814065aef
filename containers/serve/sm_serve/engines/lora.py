"""Several LoRA adapters on one model, chosen token by token.

A continuous batch packs the tokens of all requests into one row, so an adapter is applied to the
tokens of those requests that asked for it. Linear layers that an adapter changes are wrapped once;
a forward pass in which nobody wants an adapter costs one comparison a layer.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sm_serve.adapter_head import WEIGHTS
from sm_serve.artefact import ADAPTER_CONFIG
from sm_serve.errors import BadRequest, Conflict, OutOfMemory, adapter_not_found

KEY = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])(\.default)?\.weight")
PLAIN: Mapping[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "bias": ("none", None),
    "use_dora": (False, None),
    "lora_bias": (False, None),
    "trainable_token_indices": (None, []),
    "layer_replication": (None, []),
    "alora_invocation_tokens": (None, []),
    # The other ways to begin change the base model's weights, when trained and when loaded again.
    "init_lora_weights": (True, False, None, "gaussian", "eva", "orthogonal"),
    "arrow_config": (None,),
    "kasa_config": (None,),
    "use_qalora": (None, False),
    "use_bdlora": (None, False),
}
"""Values of an adapter's config that mean B·A·x and, beside it, what `modules_to_save` names."""
NOTHING_SAVED: Mapping[str, tuple[Any, ...]] = {"modules_to_save": (None, [])}


class Weights(NamedTuple):
    """An adapter's part in one layer."""

    down: Any
    up: Any
    scale: float


class Routing:
    """Which tokens of the running forward pass go through which adapter; None: all of them."""

    def __init__(self) -> None:
        self.groups: list[tuple[str, Any]] = []


def wrap(base: Any, routing: Routing) -> Any:
    """A linear layer to which adapters can be added; a function, as its class needs torch."""
    import torch
    from torch.nn.functional import linear

    class RoutedLinear(torch.nn.Module):  # type: ignore[misc]
        """The layer itself, plus what each token's adapter adds."""

        def __init__(self) -> None:
            super().__init__()
            self.base = base
            self.adapters: dict[str, Weights] = {}

        @property
        def weight(self) -> Any:
            """Models read the weight's type off their layers."""
            return self.base.weight

        def forward(self, values: Any) -> Any:
            result = self.base(values)
            for name, tokens in routing.groups:
                part = self.adapters.get(name)
                if part is None:
                    continue
                chosen = values if tokens is None else values[:, tokens]
                change = linear(linear(chosen.to(part.down.dtype), part.down), part.up) * part.scale
                if tokens is None:
                    result = result + change.to(result.dtype)
                else:
                    result = result.index_add(1, tokens, change.to(result.dtype))
            return result

    return RoutedLinear()


class AdapterBank:
    """The adapters of one model. `load` and `remove` must not run beside a forward pass.

    Subclasses may take what an adapter brings beside its LoRA: see `read_extra`.
    """

    plain: Mapping[str, tuple[Any, ...]] = {**PLAIN, **NOTHING_SAVED}

    def __init__(self, model: Any, limit: int) -> None:
        self._model = model
        self._limit = limit
        self._routing = Routing()
        self._layers: dict[str, Any] = {}
        self._names: set[str] = set()
        self._extras: dict[str, Any] = {}
        self._retired: set[str] = set()
        self._uses: Counter[str] = Counter()
        self._held = False

    def names(self) -> list[str]:
        """Adapters that may be asked for, sorted."""
        return sorted(self._names - self._retired)

    @property
    def empty(self) -> bool:
        """Whether no adapter is in memory."""
        return not self._names

    @contextlib.contextmanager
    def using(self, name: str | None) -> Iterator[None]:
        """Keeps an adapter from being removed. NotFound where it is not loaded."""
        if name is None:
            yield
            return
        if name not in self._names or name in self._retired:
            raise adapter_not_found(name, self.names())
        self._uses[name] += 1
        try:
            yield
        finally:
            self._uses[name] -= 1

    def used(self, name: str) -> bool:
        """Whether requests with this adapter are being answered."""
        return self._uses[name] > 0

    def route(self, requests: Sequence[tuple[str | None, int]]) -> None:
        """The next forward pass packs these requests: adapter and number of tokens of each."""
        import torch

        if self._held:
            return
        positions: dict[str, list[int]] = {}
        start = 0
        for name, length in requests:
            if name is not None:
                positions.setdefault(name, []).extend(range(start, start + length))
            start += length
        device = self._model.device
        if len(positions) == 1 and len(next(iter(positions.values()))) == start:
            self.route_all(next(iter(positions)))
            return
        self._routing.groups = [
            (name, torch.tensor(places, device=device)) for name, places in positions.items()
        ]

    def route_all(self, name: str | None) -> None:
        """All tokens go through one adapter, or through none."""
        self._routing.groups = [] if name is None else [(name, None)]

    @contextlib.contextmanager
    def all_through(self, name: str | None) -> Iterator[None]:
        """Forward passes inside go through one adapter or none, and are not routed otherwise."""
        groups = self._routing.groups
        self._held = True
        self.route_all(name)
        try:
            yield
        finally:
            self._held = False
            self._routing.groups = groups

    def load(self, name: str, path: Path) -> None:
        """Reads an adapter's directory.

        Raises Conflict, OutOfMemory, or BadRequest for what is not a plain LoRA of this model.
        """
        if name in self._names:
            raise Conflict(f"adapter {name!r} is loaded already", code="adapter_already_loaded")
        if len(self._names) >= self._limit:
            raise OutOfMemory(
                f"{self._limit} adapters are loaded already: unload one, or set"
                " SM_SERVE_MAX_ADAPTERS"
            )
        config = read_config(path, self.plain)
        pairs, others = read_weights(path)
        parts = {module: self._on_device(module, *pair) for module, pair in pairs.items()}
        extra = self.read_extra(path, config, others)
        for module, (down, up) in parts.items():
            layer = self._layer(module)
            layer.adapters[name] = Weights(down, up, scale_of(config, module, down.shape[0]))
        self._extras[name] = extra
        self._names.add(name)

    def read_extra(self, path: Path, config: Mapping[str, Any], others: Mapping[str, Any]) -> Any:
        """What the adapter brings beside its LoRA; `others` are its tensors. Raises BadRequest."""
        if others:
            raise BadRequest(f"{WEIGHTS} holds {min(others)}, which is no plain LoRA: merge it")
        return None

    def _on_device(self, module: str, down: Any, up: Any) -> tuple[Any, Any]:
        """The pair in the layer's own type. BadRequest where no layer has that name and shape."""
        from torch import nn
        from transformers.pytorch_utils import Conv1D

        layer = self._layers.get(module) or dict(self._model.named_modules()).get(module)
        base = getattr(layer, "base", layer)
        if not isinstance(base, nn.Linear | Conv1D) or base is self._model.get_output_embeddings():
            raise BadRequest(
                f"the adapter changes {module}, which is no inner linear layer of this model: it"
                " was trained for another one, or must be merged before deploying"
            )
        inner, outer = base.weight.shape if isinstance(base, Conv1D) else base.weight.shape[::-1]
        if (down.shape[1], up.shape[0]) != (inner, outer) or down.shape[0] != up.shape[1]:
            raise BadRequest(
                f"the adapter's {module} maps {down.shape[1]} to {up.shape[0]} values, the model's"
                f" {inner} to {outer}: it was trained for another model"
            )
        weight = base.weight
        return tuple(part.to(weight.device, weight.dtype) for part in (down, up))

    def _layer(self, module: str) -> Any:
        if module not in self._layers:
            parent, _, leaf = module.rpartition(".")
            owner = self._model.get_submodule(parent)
            self._layers[module] = wrap(getattr(owner, leaf), self._routing)
            setattr(owner, leaf, self._layers[module])
        return self._layers[module]

    def retire(self, name: str) -> None:
        """No new request gets it any more. NotFound where it is not loaded."""
        if name not in self._names or name in self._retired:
            raise adapter_not_found(name, self.names())
        self._retired.add(name)

    def remove(self, name: str) -> None:
        """Frees its memory."""
        for layer in self._layers.values():
            layer.adapters.pop(name, None)
        self._routing.groups = []
        self._extras.pop(name, None)
        self._names.discard(name)
        self._retired.discard(name)
        self._uses.pop(name, None)


def read_config(path: Path, plain: Mapping[str, tuple[Any, ...]]) -> dict[str, Any]:
    """The adapter's config, its values checked to be the `plain` ones. Raises BadRequest."""
    try:
        config = json.loads((path / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadRequest(f"{ADAPTER_CONFIG} is missing or no JSON: give a PEFT adapter") from error
    if not isinstance(config, dict):
        raise BadRequest(f"{ADAPTER_CONFIG} must hold an object")
    for name, allowed in plain.items():
        if config.get(name, allowed[0]) not in allowed:
            raise BadRequest(
                f"{ADAPTER_CONFIG}: {name}={config[name]!r} cannot be served beside other adapters,"
                " only plain LoRA can: merge it before deploying"
            )
    return config


def read_weights(path: Path) -> tuple[dict[str, tuple[Any, Any]], dict[str, Any]]:
    """Both matrices of each module that the adapter changes; and all other tensors.

    Raises BadRequest.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise BadRequest(f"{WEIGHTS} is missing or damaged: save the adapter again") from error
    found: dict[str, dict[str, Any]] = {}
    others: dict[str, Any] = {}
    for key, tensor in tensors.items():
        match = KEY.fullmatch(key)
        if match is None:
            others[key] = tensor
        else:
            found.setdefault(match["module"], {})[match["side"]] = tensor
    for module, sides in found.items():
        if set(sides) != {"A", "B"}:
            raise BadRequest(f"{WEIGHTS} lacks one matrix of {module}: save the adapter again")
    if not found:
        raise BadRequest(f"{WEIGHTS} is empty: save the adapter again")
    return {module: (sides["A"], sides["B"]) for module, sides in found.items()}, others


def scale_of(config: Mapping[str, Any], module: str, rank: int) -> float:
    """As PEFT scales: alpha over the rank, or its root; patterns match the end of a name."""
    alpha = float(config.get("lora_alpha", 8))
    for pattern, value in (config.get("alpha_pattern") or {}).items():
        if re.fullmatch(rf"(.*\.)?({pattern})", module):
            alpha = float(value)
            break
    return alpha / (rank**0.5 if config.get("use_rslora") else rank)
