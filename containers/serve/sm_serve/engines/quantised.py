"""Checkpoints in few bits, in an engine that computes in more: read as what they round to."""

from __future__ import annotations

import importlib.util
import inspect
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sm_serve.errors import StartupError

logger = logging.getLogger(__name__)

METHOD = "compressed-tensors"
"""Of config.json's quantization_config: what llm-compressor writes, such as FP8, W8A8, W4A16."""
ELSEWHERE = "serve it by vLLM (the image's GPU flavour, SM_SERVE_ENGINE=vllm)"
"""What to do with a model that the in-process engines do not take, or not as it is."""


def dense_options(config: Mapping[str, Any]) -> dict[str, Any]:
    """Keywords of from_pretrained by which such a checkpoint becomes a plain model; else none.

    Raises StartupError where the libraries that are installed cannot read it.
    """
    described = config.get("quantization_config")
    if not isinstance(described, Mapping) or described.get("quant_method") != METHOD:
        return {}
    if importlib.util.find_spec("compressed_tensors") is None:
        raise StartupError(
            f"config.json: quantization_config is of {METHOD}, which is not installed here:"
            f" {ELSEWHERE}, or pip install compressed-tensors"
        )
    from transformers import CompressedTensorsConfig

    if "dequantize" not in inspect.signature(CompressedTensorsConfig).parameters:
        raise StartupError(
            f"config.json: quantization_config is of {METHOD}, which this transformers does not"
            f" read into a plain model: {ELSEWHERE}, or install transformers 5.23"
        )
    logger.warning(
        "the checkpoint is in few bits (%s), and this engine computes in more: answers are those of"
        " the rounded weights, memory and speed those of a model that was not rounded; %s for both",
        described.get("format") or METHOD,
        ELSEWHERE,
    )
    return {"quantization_config": CompressedTensorsConfig(dequantize=True)}


@contextmanager
def quiet_override() -> Iterator[None]:
    """transformers warns of what was just asked of it: that a checkpoint says how it was made."""
    import warnings

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="You passed `quantization_config`")
        yield
