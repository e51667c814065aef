"""Linear layers by oneDNN on a CPU, their weights laid out for it once.

torch multiplies float32 matrices by MKL. For the few rows of a generation step oneDNN takes half
the time on processors with AVX-512, for the many rows of a batch of texts a tenth less; for layers
of a few thousand weights the call itself costs more. So each shape is tried as a model is loaded.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any

logger = logging.getLogger(__name__)

ROWS = 16
"""Tokens of the step that is tried, and that the layout is made for."""
TRIES = 20
FEW_ROWS = 256
"""Up to here their number is rounded up to a multiple of ROWS, above it to one of 4 * ROWS."""
GAIN = 1.2
"""A layer is packed where it becomes so many times as fast. With AVX-512 it is twice, with AVX2 a
twentieth or nothing: between them no start on a busy machine decides otherwise than another."""
NARROWEST = 256
"""Width below which a lone token's step loses by it, whatever is measured."""


def pack_linears(model: Any, worthwhile: Callable[[int, int], bool] | None = None) -> int:
    """Lets oneDNN compute the model's linear layers; returns how many it now does.

    `worthwhile` tells by input and output width; by default both ways are measured. The dense
    weights are freed, apart from those that an embedding shares.
    """
    import torch

    if (
        not hasattr(torch.ops.mkldnn, "_linear_pointwise")
        or not torch.backends.mkldnn.is_available()
    ):
        return 0
    chosen = worthwhile or cache(is_faster)
    layers = [
        (owner, name, layer)
        for owner in model.modules()
        for name, layer in owner.named_children()
        if type(layer) is torch.nn.Linear
        and layer.weight.dtype is torch.float32
        and chosen(layer.in_features, layer.out_features)
    ]
    if not layers:
        return 0
    shared = {id(m.weight) for m in model.modules() if isinstance(m, torch.nn.Embedding)}
    going = {id(layer.weight) for _, _, layer in layers} - shared
    _release_file(each for each in model.parameters() if id(each) not in going)
    for owner, name, layer in layers:
        setattr(owner, name, pack(layer, keep=id(layer.weight) in shared))
    logger.info("%d linear layers are computed by oneDNN", len(layers))
    return len(layers)


def _release_file(staying: Iterable[Any]) -> None:
    """Copies what is not packed: the file stays in memory while anything points into it."""
    for parameter in staying:
        parameter.data = parameter.data.clone()


def pack(layer: Any, *, keep: bool) -> Any:
    """The same layer by oneDNN; `keep` leaves its weights as they are, for another to use too."""
    import torch

    class PackedLinear(torch.nn.Linear):  # type: ignore[misc]
        """A linear layer for inference whose weights only oneDNN can read."""

        def forward(self, values: Any) -> Any:
            rows = values.reshape(-1, self.in_features)
            missing = padding(len(rows))
            if missing:
                rows = torch.nn.functional.pad(rows, (0, 0, 0, missing))
            result = torch.ops.mkldnn._linear_pointwise(
                rows, self.packed, self.bias, "none", [], ""
            )
            if missing:
                result = result[:-missing]
            return result.view(*values.shape[:-1], self.out_features)

    weight = layer.weight.detach()
    result = PackedLinear(1, 1, bias=False)
    result.in_features, result.out_features = layer.in_features, layer.out_features
    result.bias = layer.bias
    result.packed = weight if keep else torch.ops.mkldnn._reorder_linear_weight(weight, ROWS)
    if not keep:
        # Shape, type and device for those who ask; NaN, for nobody must compute with it.
        weight = weight.new_full((1,), float("nan")).expand(weight.shape)
    result.weight = torch.nn.Parameter(weight, requires_grad=False)
    return result.eval()


def padding(rows: int) -> int:
    """Rows of zeros to add. oneDNN makes and keeps code for each number of rows that it meets, and
    texts would bring thousands: memory would grow by hundreds of MiB."""
    if rows <= ROWS:
        return 0
    return -rows % (ROWS if rows <= FEW_ROWS else 4 * ROWS)


def is_faster(inputs: int, outputs: int) -> bool:
    """Whether a layer of this shape gains by oneDNN here, measured in a few milliseconds."""
    import torch

    if min(inputs, outputs) < NARROWEST:
        return False
    dense = torch.nn.Linear(inputs, outputs, bias=False)
    values = torch.randn(ROWS, inputs)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # several wait for whichever is held up by what else runs
    try:
        with torch.inference_mode():
            usual, packed = _seconds([dense, pack(dense, keep=False)], values)
    finally:
        torch.set_num_threads(threads)
    return usual > GAIN * packed


def _seconds(layers: Sequence[Any], values: Any) -> list[float]:
    """Each one's fastest call of some, in turns: what else runs only ever slows one down."""
    best = [float("inf")] * len(layers)
    for _ in range(TRIES):
        for index, layer in enumerate(layers):
            began = time.perf_counter()
            layer(values)
            best[index] = min(best[index], time.perf_counter() - began)
    return best
