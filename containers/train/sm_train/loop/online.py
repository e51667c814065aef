"""What a resumed online method (GRPO, RLOO, distillation) needs beyond what other methods do.

TRL samples answers for several steps at once and keeps them in memory alone; and its sampler draws
each epoch's order of prompts from a generator that begins anew with the process.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_ANSWERS = "sampled_answers_{}.pt"  # by process


def keep_answers(trainer: Any, checkpoint: Path) -> None:
    """Add to the checkpoint the answers that the next steps train on; every process its own."""
    if not hasattr(trainer, "_buffered_inputs"):
        return
    import torch

    step, shape = trainer._step, _shape(trainer)
    answers = trainer._buffered_inputs if step % shape[0] else None
    path = checkpoint / _ANSWERS.format(trainer.args.process_index)
    torch.save({"step": step, "shape": shape, "answers": answers}, path)


def restore_answers(trainer: Any, checkpoint: Path) -> None:
    """The other half of `keep_answers`; a checkpoint of another tool has no such file."""
    path = checkpoint / _ANSWERS.format(trainer.args.process_index)
    if not hasattr(trainer, "_buffered_inputs") or not path.is_file():
        return
    import torch

    kept = torch.load(path, map_location=trainer.args.device, weights_only=True)
    if kept["shape"] == _shape(trainer):  # else the batch was changed, or halved: sample anew
        trainer._step, trainer._buffered_inputs = kept["step"], kept["answers"]


def _shape(trainer: Any) -> list[int]:
    """For how many small steps answers are sampled at once, and how they are cut."""
    arguments = trainer.args
    steps = getattr(arguments, "steps_per_generation", None)
    steps = steps or arguments.gradient_accumulation_steps
    every = steps * getattr(trainer, "num_iterations", 1)
    return [every, steps, arguments.per_device_train_batch_size, arguments.world_size]


def restore_order(trainer: Any, checkpoint: Path) -> None:
    """Let the sampler draw the orders of the epochs that are over. Call it before training."""
    if not hasattr(trainer, "_buffered_inputs"):
        return
    import torch
    from trl.trainer.utils import RepeatSampler

    state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    make_sampler = trainer._get_train_sampler

    def caught_up(dataset: Any = None) -> Any:
        sampler = make_sampler(dataset)
        if isinstance(sampler, RepeatSampler) and sampler.shuffle:
            for _ in range(int(state["epoch"] or 0)):
                torch.randperm(sampler.num_samples, generator=sampler.generator)
        return sampler

    trainer._get_train_sampler = caught_up
