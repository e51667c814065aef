"""How several processes share a model: copies (DDP), shards (FSDP2), DeepSpeed's ZeRO.

One key chooses; the libraries' own `fsdp`, `fsdp_config` and `deepspeed` pass through as well.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sm_train.errors import UserError
from sm_train.settings import packages

if TYPE_CHECKING:
    from sm_train.settings.settings import Config

_ZERO_STAGES = {"zero2": 2, "zero3": 3}
_OWN_KEYS = ("fsdp", "deepspeed")


def check_parallelism(config: Config) -> None:
    """Refuse contradictions, before torch is imported."""
    chosen, training = config.job.parallelism, config.training
    others = {key: training.get(key) for key in _OWN_KEYS}
    for key, value in {**others, "accelerate_config": config.job.accelerate_config}.items():
        if chosen is not None and value:
            raise UserError(
                f"contradicts another setting: {key} is set too",
                field="parallelism",
                value=chosen,
                fix=f"set only one of parallelism and {key}",
            )
    _check_deepspeed(training.get("deepspeed"))


def _check_deepspeed(value: Any) -> None:
    """DeepSpeed's own config: the trainer would look at it only when the model is loaded."""
    if not value:
        return
    given = _deepspeed_settings(value)
    shards = given.get("zero_optimization", {})
    stage = shards.get("stage", 0) if isinstance(shards, dict) else None
    if stage not in (0, 1, 2, 3):
        raise UserError(
            "zero_optimization must be an object with a stage from 0 to 3",
            field="deepspeed",
            value=value,
            fix='write for example {"zero_optimization": {"stage": 2}}, or set only parallelism',
        )


def _deepspeed_settings(value: Any) -> dict[str, Any]:
    """The object itself, or that of the JSON file that a path names."""
    given = value
    if isinstance(value, str):
        try:
            given = json.loads(Path(value).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(
                f"is neither a JSON object nor a JSON file: {error}", field="deepspeed", value=value
            ) from error
    if not isinstance(given, dict):
        raise UserError("is not a JSON object", field="deepspeed", value=value)
    return given


def check_hardware(config: Config, gpus: int) -> None:
    """Refuse what needs GPUs where there are none, before torch is imported."""
    for key in ("load_in_4bit", "load_in_8bit"):
        if not getattr(config.model, key):
            continue
        if not gpus:
            raise UserError(
                "quantised training needs an NVIDIA GPU, and there is none here",
                field=key,
                value=True,
                fix="use a GPU instance type, or set it to false",
            )
        if not packages.installed("bitsandbytes"):
            raise UserError(
                "needs the package bitsandbytes, which is not installed",
                field=key,
                value=True,
                fix="use the GPU image, which has it, or set it to false",
            )
    if uses_shards(config) and not gpus:
        # accelerate would train copies instead, and not say so.
        chosen = config.job.parallelism
        raise UserError(
            "needs GPUs, and there is none here: accelerate shards a model on accelerators only",
            field="parallelism" if chosen else next(k for k in _OWN_KEYS if config.training.get(k)),
            value=chosen,
            fix="use a GPU instance type, or set parallelism to ddp",
        )


def uses_shards(config: Config) -> bool:
    """Whether no process holds the whole model while training."""
    return config.job.parallelism not in (None, "ddp") or any(
        config.training.get(key) for key in _OWN_KEYS
    )


def parallel_settings(config: Config, recompute: bool) -> dict[str, Any]:
    """Fields of the training arguments. `recompute`: activations are recomputed in the backward."""
    chosen, training = config.job.parallelism, config.training
    if chosen == "fsdp" or _is_true(training.get("fsdp")):
        return _fsdp(dict(training.get("fsdp_config") or {}), recompute)
    if chosen in _ZERO_STAGES:
        return {"deepspeed": zero_config(_ZERO_STAGES[chosen])}
    return {}


def _is_true(value: Any) -> bool:
    """transformers takes True; a hyperparameter of that name is text there."""
    return str(value).lower() in {"true", "1", "yes"}


def _fsdp(given: dict[str, Any], recompute: bool) -> dict[str, Any]:
    """FSDP2: each layer is a unit; a checkpoint holds the whole model, for any number of GPUs."""
    settings = {"version": 2, "reshard_after_forward": True, **given}
    if recompute and "activation_checkpointing" not in settings:
        # FSDP's own: the trainer's would gather each layer once more in the backward pass.
        settings["activation_checkpointing"] = True
    return {"fsdp": True, "fsdp_config": settings, "activation_checkpointing": False}


def zero_config(stage: int) -> dict[str, Any]:
    """A DeepSpeed config that takes from the training arguments whatever they say."""
    shards: dict[str, Any] = {
        "stage": stage,
        "overlap_comm": True,
        "contiguous_gradients": True,
        "reduce_bucket_size": "auto",
    }
    if stage == 3:
        shards |= {
            "stage3_prefetch_bucket_size": "auto",
            "stage3_param_persistence_threshold": "auto",
            # Without it neither a checkpoint nor the artefact would hold weights to load.
            "stage3_gather_16bit_weights_on_model_save": True,
        }
    return {
        "zero_optimization": shards,
        "bf16": {"enabled": "auto"},
        "fp16": {"enabled": "auto"},
        "gradient_clipping": "auto",
        "gradient_accumulation_steps": "auto",
        "train_batch_size": "auto",
        "train_micro_batch_size_per_gpu": "auto",
    }
