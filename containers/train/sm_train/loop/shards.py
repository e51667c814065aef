"""FSDP2 as exact as DDP, and checkpoints of it that hold every weight once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def exact_shards(arguments: Any) -> None:
    """Let FSDP2 compute in half precision only what DDP does, for every model of a trainer.

    accelerate rounds losses, log probabilities and the sums of gradients to that type as well.
    """
    import torch
    from torch.distributed.fsdp import MixedPrecisionPolicy

    plugin = arguments.fsdp_plugin_args
    if not plugin or plugin["fsdp_version"] != 2 or not (arguments.bf16 or arguments.fp16):
        return
    plugin["mixed_precision_policy"] = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if arguments.bf16 else torch.float16,
        reduce_dtype=torch.float32,
        output_dtype=torch.float32,
    )


@contextmanager
def shards_settled(trainer: Any) -> Iterator[None]:
    """Checkpoints hold each weight once while a trainer trains in shards.

    The trainer writes the weights for transformers beside those for FSDP.
    """
    if not trainer.is_fsdp_enabled:
        yield
        return
    plugin = trainer.accelerator.state.fsdp_plugin
    if not hasattr(trainer.model, "peft_config") and _is_whole(plugin):
        trainer.save_model = lambda folder=None, **_: _describe(trainer, folder)
    try:
        with _tied_weights_once(plugin):
            yield
    finally:
        trainer.__dict__.pop("save_model", None)


def _is_whole(plugin: Any) -> bool:
    return "FULL" in str(plugin.state_dict_type)


def _describe(trainer: Any, folder: str | None) -> None:
    """A checkpoint's configs and tokenizer; the weights lie beside, as FSDP reads them."""
    import torch

    if not trainer.args.should_save:
        return
    target = Path(folder or trainer.args.output_dir)
    target.mkdir(parents=True, exist_ok=True)
    trainer.model.config.save_pretrained(target)
    if trainer.model.can_generate():
        trainer.model.generation_config.save_pretrained(target)
    if trainer.processing_class is not None:
        trainer.processing_class.save_pretrained(target)
    torch.save(trainer.args, target / "training_args.bin")


@contextmanager
def _tied_weights_once(plugin: Any) -> Iterator[None]:
    """Weights that share their values are gathered apart; a file holds what is one object once."""
    from accelerate.utils import fsdp_utils

    gathered = fsdp_utils._get_model_state_dict

    def shared(model: Any, *given: Any, **named: Any) -> Any:
        state = gathered(model, *given, **named)
        tied = getattr(model, "all_tied_weights_keys", None) or {}
        for name, source in tied.items():
            if name in state and source in state:
                state[name] = state[source]
        return state

    if not _is_whole(plugin):
        yield
        return
    fsdp_utils._get_model_state_dict = shared
    try:
        yield
    finally:
        fsdp_utils._get_model_state_dict = gathered
