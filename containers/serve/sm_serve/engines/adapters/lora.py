"""Several LoRA adapters on one model, chosen token by token.

A continuous batch packs the tokens of all requests into one row, so an adapter is applied to the
tokens of those requests that asked for it. Linear layers that an adapter changes are wrapped once;
a forward pass in which nobody wants an adapter costs one comparison a layer.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

from sm_serve.artefact.adapter_head import WEIGHTS
from sm_serve.engines.adapters.adapter_files import (
    check_weights,
    read_config,
    read_weights,
    scale_of,
)
from sm_serve.errors import BadRequest, Conflict, OutOfMemory, adapter_not_found

logger = logging.getLogger(__name__)

SPOILT = "the adapter makes the model's values no numbers (NaN or infinity): unload and retrain it"
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


MOST_CHANGE = 1e6
"""What an adapter may add to a value; a model's own values are a thousandth of it."""
TRIAL_TOKENS = 4


class Weights(NamedTuple):
    """An adapter's part in one layer."""

    down: Any
    up: Any
    scale: float


class Routing:
    """Which tokens of the running forward pass go through which adapter; None: all of them."""

    def __init__(self) -> None:
        self.groups: list[tuple[str, Any]] = []
        self.wrong: dict[str, Any] = {}

    def kept_sound(self, name: str, change: Any) -> Any:
        """An adapter's change where it is a number that the model can go on with, else nothing.

        Attention adds up over all requests of a batch, those of others with weight nought: what is
        no number would spoil them all. That it was so is remembered on the device, as to ask there
        takes time.
        """
        import torch

        most = min(MOST_CHANGE, torch.finfo(change.dtype).max / 2)
        sound = change.abs() <= most  # false for NaN
        wrong = ~sound.all()
        before = self.wrong.get(name)
        self.wrong[name] = wrong if before is None else before | wrong
        return change.where(sound, 0)

    def spoilt(self, name: str) -> bool:
        """Whether one of an adapter's changes was none."""
        error = self.wrong.get(name)
        return error is not None and bool(error)


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
                change = routing.kept_sound(name, change)
                if tokens is None:
                    result = result + change.to(result.dtype)
                else:
                    result = result.index_add(1, tokens, change.to(result.dtype))
            return result

    return RoutedLinear()


class LoraAdapters:
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
        check_weights(config, pairs, others)
        parts = {module: self._on_device(module, *pair) for module, pair in pairs.items()}
        extra = self.read_extra(path, config, others)
        for module, (down, up) in parts.items():
            layer = self._layer(module)
            layer.adapters[name] = Weights(down, up, scale_of(config, module, down.shape[0]))
        self._extras[name] = extra
        self._names.add(name)
        try:
            self._try(name)
        except BadRequest:
            self.remove(name)
            raise

    def _try(self, name: str) -> None:
        """One forward pass. BadRequest where it gives no numbers: the weights are too large."""
        import torch

        ids = torch.zeros((1, TRIAL_TOKENS), dtype=torch.long, device=self._model.device)
        inputs = {"input_ids": ids}
        if "decoder_input_ids" in inspect.signature(self._model.forward).parameters:
            inputs["decoder_input_ids"] = ids[:, :1]
        try:
            with self.trial(name), torch.inference_mode():
                output = self._model(**inputs)
        except Exception as error:  # a model that wants more than token ids
            logger.warning("adapter %r is not tried: %s", name, error)
            return
        values = (value for value in output.values() if isinstance(value, torch.Tensor))
        if self.spoilt(name) or not all(bool(value.isfinite().all()) for value in values):
            raise BadRequest(
                "the adapter's weights make the model's answers no numbers (NaN or infinity): train"
                " it again, with a lower learning rate"
            )

    def trial(self, name: str) -> AbstractContextManager[None]:
        """The forward pass inside goes through one adapter."""
        return self.all_through(name)

    def spoilt(self, name: str) -> bool:
        """Whether an adapter has given what is no number: its answers are worth nothing."""
        return self._routing.spoilt(name)

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
        self._routing.wrong.pop(name, None)
        self._retired.discard(name)
        self._uses.pop(name, None)
