"""Whether a GPU can keep all activations of a step, or has to compute them anew in its second half.

To compute them anew costs about a third of a step's time and changes no result. The estimate is
careful; where it errs, the job starts again and computes them anew (see `memory.retry`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sm_train.job import Job
from sm_train.modelling.stored_weights import stored_weights

_MARGIN = 0.7  # of the GPU's memory: the rest is for what nobody counts, and for its fragments
_TRAINED_BYTES = 16  # a trained parameter in float32, its gradient and Adam's two moments
_ADAPTER_SHARE = 0.02
_LOGIT_BYTES = 10


@dataclass(frozen=True)
class Shape:
    """What a decoder's config says of its size."""

    hidden: int
    layers: int
    inner: int
    vocabulary: int
    parameters: int

    def activation_bytes(self, *, adapters: bool, half: bool) -> float:
        """What one token leaves behind for the backward pass, in all layers and the head.

        A layer keeps its linear layers' inputs (about ten times hidden and four times inner) and
        its norms' in float32; adapters have inputs of their own.
        """
        layer = (2 if half else 4) * (10 * self.hidden + 4 * self.inner) + 12 * self.hidden
        return self.layers * layer * (1.5 if adapters else 1) + _LOGIT_BYTES * self.vocabulary


def shape_of(config: Any, parameters: int) -> Shape | None:
    """Of a transformers config; None for one of another kind, such as a mixture of experts."""
    text = config.get_text_config()
    names = ("hidden_size", "num_hidden_layers", "intermediate_size", "vocab_size")
    sizes = [int(getattr(text, name, None) or 0) for name in names]
    if not all(sizes):
        return None
    if any("expert" in name and value for name, value in text.to_dict().items()):
        return None
    hidden, layers, inner, vocabulary = sizes
    counted = layers * (4 * hidden**2 + 3 * hidden * inner) + 2 * vocabulary * hidden
    return Shape(hidden, layers, inner, vocabulary, parameters or counted)


def needed_bytes(
    shape: Shape, held: tuple[int, int], tokens: int, *, adapters: bool, width: float, half: bool
) -> float:
    """GPU memory of a step that keeps its activations.

    Args:
        held: a row's sequences, and the models that hold weights (Method.in_memory).
        tokens: of the rows of a batch, each as long as it may be.
        width: bytes of a frozen weight.
        half: whether matrices are multiplied in half precision.
    """
    sequences, models = held
    trained = shape.parameters * (_ADAPTER_SHARE if adapters else 1)
    frozen = shape.parameters * (1 if adapters else models - 1)
    kept = tokens * sequences * shape.activation_bytes(adapters=adapters, half=half)
    return trained * _TRAINED_BYTES + frozen * width + kept


def fit(job: Job, settings: Mapping[str, Any]) -> bool:
    """Whether activations can be kept on this GPU, with a margin; False where it is not known."""
    import torch
    from transformers import AutoConfig

    from sm_train.modelling.model import loaded

    options, held = job.config.model, job.config.method.in_memory
    limit = _longest(job)
    if held is None or limit is None or job.has_images:  # nobody counts a vision tower's
        return False
    config = loaded(
        AutoConfig.from_pretrained,
        job.model_source,
        revision=options.model_revision,
        trust_remote_code=options.trust_remote_code,
    )
    shape = shape_of(config, stored_weights(job.model_source)[0])
    if shape is None:
        return False
    half = bool(settings.get("bf16") or settings.get("fp16"))
    needed = needed_bytes(
        shape,
        held,
        int(settings.get("per_device_train_batch_size") or 8) * limit,
        adapters=options.use_peft,
        width=4 if options.dtype == "float32" or not (half or options.dtype) else 2,
        half=half,
    )
    return bool(needed < _MARGIN * torch.cuda.mem_get_info()[0])


def _longest(job: Job) -> int | None:
    """Tokens that a row may have; None for no limit."""
    from sm_train.modelling.sequences import setting

    limit = setting(job.config, "max_length")
    return limit if isinstance(limit, int) else None
