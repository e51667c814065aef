"""Scoring in the precision of the weights, as a server on CPUs computes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_PLAIN = "_original_forward"
"""Where accelerate keeps a model's forward pass before it wraps it in autocast."""


@contextmanager
def in_full_precision(trainer: Any) -> Iterator[None]:
    """Leaves out autocast for a trainer's model on a CPU whose weights are all float32.

    Training in bfloat16 is faster, and close scores fall otherwise in it: what is measured on the
    test rows would not be what the endpoint answers. Elsewhere nothing changes: a GPU's memory is
    sized for half precision, weights of several types only go together in autocast, and shards have
    a precision of their own.
    """
    model = trainer.model
    plain = vars(model).get(_PLAIN)
    sharded = trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled
    if plain is None or sharded or not _is_plain(model):
        yield
        return
    wrapped = model.forward
    model.forward = plain
    try:
        yield
    finally:
        model.forward = wrapped


def _is_plain(model: Any) -> bool:
    import torch

    weights = [each for each in model.parameters() if each.is_floating_point()]
    return all(each.device.type == "cpu" and each.dtype is torch.float32 for each in weights)
