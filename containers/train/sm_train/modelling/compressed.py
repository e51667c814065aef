"""Language models in fewer bits, as compressed-tensors: made by llm-compressor, served by vLLM.

The head and a mixture's routers stay as they are, for little is saved there and much is lost.
"""

from __future__ import annotations

import os
import re
import warnings
from pathlib import Path
from typing import Any

from sm_train.errors import UserError, shorten
from sm_train.log import without_bars

SCHEMES = {"fp8": "FP8_DYNAMIC", "int8": "W8A8", "int4": "W4A16"}
"""llm-compressor's scheme of each precision."""
CALIBRATED = ("int8", "int4")
"""Their weights are rounded by GPTQ, which asks what the layers read."""
MOST_ROWS, MOST_TOKENS = 512, 2048
"""What is calibrated by: llm-compressor's examples take as much."""
_GROUPS = (128, 64, 32)
"""Weights of a row that share a scale, in four bits: sizes that vLLM has kernels for."""
_ROUTER = re.compile(r"(\.|_)gate$|\.router$")
_KEPT = ["lm_head", f"re:.*({_ROUTER.pattern})"]
_LEAST = 0.05
"""Share of the weights below which nothing worth the name is rounded."""
_ROUNDING = {
    "fp8": "in FP8, a scale for each output; activations in FP8, a scale for each token",
    "int8": "in int8 by GPTQ, a scale for each output; activations in int8, a scale for each token",
    "int4": "in int4 by GPTQ, a scale for each group of a row's weights; activations in two bytes",
}


def compress(model: Any, tokenizer: Any, precision: str, rows: Any, folder: Path) -> None:
    """Round the model's linear layers, and write it to a folder with config.json.

    Args:
        model: a decoder of transformers; it is of no further use.
        tokenizer: the model's.
        precision: a key of SCHEMES.
        rows: a data set of tokenised texts to calibrate by; read for CALIBRATED only.
        folder: gets weights, config.json and llm-compressor's recipe.

    Raises:
        UserError: the model's layers do not take it.
    """
    os.environ.setdefault("LLM_COMPRESSOR_LOG_LEVEL", "ERROR")  # else each layer has four lines
    from llmcompressor import oneshot
    from loguru import logger

    logger.disable("compressed_tensors")
    calibrated = precision in CALIBRATED
    given = {"dataset": _batches(rows), "num_calibration_samples": _count(rows)}
    recipe = _recipe(model, precision)
    try:
        with without_bars(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Attempting to save a model with offloaded")
            oneshot(
                model=_narrow(model.eval()),
                processor=tokenizer,
                recipe=recipe,
                **(given if calibrated else {}),
            )
            model.save_pretrained(folder, save_compressed=True)
    except (ValueError, TypeError, RuntimeError, NotImplementedError) as error:
        if "out of memory" in str(error).lower():
            raise
        raise UserError(
            f"{type(model).__name__} does not take it: {type(error).__name__}: "
            f"{shorten(str(error), 300)}",
            field="precision",
            value=precision,
            fix="use fp8 or bfloat16" if calibrated else "use bfloat16",
        ) from error


def describe(model: Any, precision: str) -> str:
    """How the model is made, in words.

    Raises UserError where it has no layer that could be: GPT-2's are none of torch's linear ones.
    """
    layers = _rounded(model)
    weights = sum(layer.weight.numel() for layer in layers)
    share = weights / sum(each.numel() for each in model.parameters())
    if share < _LEAST:
        raise UserError(
            f"reaches {share:.0%} of the weights of {type(model).__name__}, whose layers are not "
            "torch's linear ones",
            field="precision",
            value=precision,
            fix="use bfloat16",
        )
    return (
        f"{len(layers)} linear layers, {share:.0%} of the weights, {_ROUNDING[precision]}, by "
        "llm-compressor as compressed-tensors; the others in two bytes."
    )


def group_size(model: Any) -> int:
    """The largest group that divides the rows of every layer that is rounded.

    Raises UserError where none does.
    """
    widths = {layer.in_features for layer in _rounded(model)}
    for size in _GROUPS:
        if all(width % size == 0 for width in widths):
            return size
    raise UserError(
        f"takes layers whose inputs are a multiple of {_GROUPS[-1]}; this model's are "
        f"{', '.join(map(str, sorted(widths)))}",
        field="precision",
        value="int4",
        fix="use int8 or fp8",
    )


def _rounded(model: Any) -> list[Any]:
    """The layers that are."""
    import torch

    head = model.get_output_embeddings()
    return [
        layer
        for name, layer in model.named_modules()
        if isinstance(layer, torch.nn.Linear) and layer is not head and not _ROUTER.search(name)
    ]


def _narrow(model: Any) -> Any:
    """What is not rounded takes two bytes as well; GPUs compute in nothing wider."""
    import torch

    return model if model.dtype is torch.float16 else model.to(torch.bfloat16)


def _recipe(model: Any, precision: str) -> Any:
    from compressed_tensors.quantization import preset_name_to_scheme
    from llmcompressor.modifiers.quantization import GPTQModifier, QuantizationModifier

    scheme = preset_name_to_scheme(SCHEMES[precision], ["Linear"])
    if precision == "int4":
        scheme.weights.group_size = group_size(model)
    kind = GPTQModifier if precision in CALIBRATED else QuantizationModifier
    return kind(config_groups={"group_0": scheme}, ignore=_KEPT)


def _count(rows: Any) -> int:
    return min(len(rows), MOST_ROWS)


def _batches(rows: Any) -> Any:
    """Each text by itself: nothing is calibrated on padding."""
    import torch
    from torch.utils.data import DataLoader

    texts = (list(row["input_ids"])[:MOST_TOKENS] for row in rows.select(range(_count(rows))))
    columns = [
        {"input_ids": torch.tensor([text]), "attention_mask": torch.ones(1, len(text)).long()}
        for text in texts
    ]
    return DataLoader(columns, batch_size=None)


def reload(folder: Path, device: Any, attention: str | None = None) -> Any:
    """The model as it was written, for SFTTrainer to score it; with transformers' `attention`.

    transformers computes what vLLM would: by the weights of the file, and with activations rounded
    as they will be.
    """
    import torch
    from transformers import AutoModelForCausalLM
    from trl.trainer.utils import add_fused_lm_head

    with without_bars(), torch.no_grad():
        model = AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, attn_implementation=attention
        )
        model = model.to(device).eval()
        model(torch.zeros((1, 1), dtype=torch.long, device=device))  # which unpacks the weights
    # What the trainer does to the model that it is given: it asks for these and no logits.
    add_fused_lm_head(model, outputs=("log_probs", "entropy", "is_top1"))
    return model
