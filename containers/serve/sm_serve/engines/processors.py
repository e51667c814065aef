"""What a model on CPU takes of the processors: threads of a batch, and batches at a time.

Both follow from the model's sizes and the processors that there are. Nothing is measured at the
start: on a machine that is busy then, a measurement says something else each time.

Threads within a batch wait for one another in each layer; batches beside one another do not. So
under load each batch gets a processor of its own, and a lone one all of them.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sm_serve.config import Settings

logger = logging.getLogger(__name__)

WIDE = 100_000
"""Weights of a linear layer, on average, from which on a second thread saves more than it costs.
Below it the model's time is Python's, of which one thread runs at a time."""
MOST_REPLICAS = 4
"""By default: they share Python's one running thread, which is not asked for more."""


def available_cpus() -> int:
    """CPUs this process may use: the affinity mask, and the container's quota where one is set."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    count = count or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            count = min(count, max(1, round(int(quota) / int(period))))
    except (OSError, ValueError):
        pass  # no cgroup v2 limit to respect
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return min(count, int(wanted)) if wanted.isdigit() and int(wanted) > 0 else count


def is_wide(model: Any) -> bool:
    """Whether the model's layers are large enough for more than one processor."""
    import torch
    from transformers.pytorch_utils import Conv1D

    last = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    sizes = [
        each.weight.numel()
        for each in model.modules()
        if isinstance(each, torch.nn.Linear | Conv1D) and each is not last
    ]
    return not sizes or sum(sizes) / len(sizes) >= WIDE


def use_processors(model: Any) -> None:
    """Sets the number of threads of a model on CPU: all processors', or one for a small model.

    Call it before layers are packed.
    """
    import torch

    torch.set_num_threads(available_cpus() if is_wide(model) else 1)
    logger.info("the model computes with %d threads", torch.get_num_threads())


def choose_replicas(model: Any, settings: Settings) -> int:
    """Batches at a time: what the settings say, else one a processor for what is large enough.

    Ask after `use_processors`.
    """
    import torch

    if model.device.type != "cpu":
        return 1
    return settings.replicas or settings.workers or min(torch.get_num_threads(), MOST_REPLICAS)


def twin(model: Any) -> Any:
    """The model again, all tensors shared: its modules can be changed, and run, by themselves."""
    import torch

    memo: dict[int, Any] = {}
    for module in model.modules():
        tensors = (*module._parameters.values(), *module._buffers.values(), *vars(module).values())
        memo |= {id(each): each for each in tensors if isinstance(each, torch.Tensor)}
    return copy.deepcopy(model, memo)


class Processors:
    """Processors that batches share which are computed at the same time."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._batches = 0
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def share(self) -> Iterator[None]:
        """A batch is computed inside, with as many threads as are its part now."""
        import torch

        with self._lock:
            self._batches += 1
            threads = max(1, self._count // self._batches)
        try:
            if torch.get_num_threads() != threads:  # this thread's own number
                torch.set_num_threads(threads)
            yield
        finally:
            with self._lock:
                self._batches -= 1
