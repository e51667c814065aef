"""What makes a resumed run equal to an uninterrupted one, beyond what the trainer saves itself.

The trainer forgets the losses since the last log event, TRL's running metrics, and evaluations that
a stop cut short; and an evaluation moves the random state that the next step's dropout is drawn
from.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import EarlyStoppingCallback, PreTrainedModel, TrainerCallback

from sm_train.errors import UserError
from sm_train.log import print_line
from sm_train.loop.checkpoints import seal, step_of, whole_steps
from sm_train.loop.fingerprint import carry
from sm_train.loop.online import keep_answers, restore_answers

METERS = "running_metrics.json"


class AlreadyTrainedError(Exception):
    """The checkpoint is that of the last step: there is nothing left to train."""


class ResumeCallback(TrainerCallback):  # type: ignore[misc]
    """Restores what the trainer forgets, and seals every checkpoint once it is whole."""

    def __init__(self, trainer: Any, checkpoint: Path | None) -> None:
        self.trainer = trainer
        self.checkpoint = checkpoint
        self._random: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Pick up the running metrics, and run the evaluation that a stop left out."""
        if self.checkpoint is None:
            return
        _find_best(state, self.checkpoint.parent)
        restore_meters(self.trainer, self.checkpoint)
        restore_answers(self.trainer, self.checkpoint)
        if evaluation_is_due(args, state):
            print_line(f"evaluating step {state.global_step}, which the stop left out")
            self.trainer._load_rng_state(str(self.checkpoint))  # for the answers it samples
            metrics = self.trainer._evaluate(None, None)
            if self.trainer._determine_best_metric(metrics=metrics, trial=None):
                state.best_model_checkpoint = str(self.checkpoint)

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """The trainer would take one more step before it looks whether it has had enough."""
        if self.checkpoint is None:
            return
        if self._has_ended(state):
            raise AlreadyTrainedError
        set_epoch(self.trainer.callback_handler.train_dataloader, int(state.epoch))

    def _has_ended(self, state: Any) -> bool:
        if state.global_step >= state.max_steps:
            return True
        waits = [
            callback
            for callback in self.trainer.callback_handler.callbacks
            if isinstance(callback, EarlyStoppingCallback)
        ]
        return step_of(self.checkpoint or Path()) == state.global_step and any(
            callback.early_stopping_patience_counter >= callback.early_stopping_patience
            for callback in waits
        )

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Keep the random state from before an evaluation."""
        if control.should_evaluate:
            self._random = random_state()

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """As after a step: evaluations by epoch come here."""
        if control.should_evaluate:
            self._random = random_state()

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """From here on the generators go on."""
        self._random = None

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Training goes on as if nothing had been evaluated, however many data sets were."""
        self.rewind()

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """The trainer has written its part."""
        finish_checkpoint(self.trainer)

    def rewind(self) -> None:
        """Back to the random state of the last step."""
        if self._random is not None:
            set_random_state(self._random)


def _find_best(state: Any, folder: Path) -> None:
    """Where the best checkpoint lies now; one that is lost is replaced by the best from here on."""
    if state.best_model_checkpoint is None:
        return
    best = folder / Path(state.best_model_checkpoint).name
    if best.is_dir():
        state.best_model_checkpoint = str(best)
        return
    if state.is_local_process_zero:
        print_line(
            f"{best.name}, the best checkpoint so far, is lost: the model will be the best one "
            f"from step {state.global_step} on"
        )
    state.best_metric = state.best_model_checkpoint = state.best_global_step = None


def set_epoch(dataloader: Any, epoch: int) -> None:
    """Tell every sampler below, however deep, which epoch's order to draw.

    accelerate and transformers look two levels down. Where several processes skip the batches of an
    epoch that a stop cut short, there are three: they would go on with the first epoch's order.
    """
    part: Any = dataloader
    while part is not None:
        batches = getattr(part, "batch_sampler", None)
        part = getattr(part, "sampler", None) if batches is None else batches
        if hasattr(part, "set_epoch"):
            part.set_epoch(epoch)


def evaluation_is_due(args: Any, state: Any) -> bool:
    """Whether an uninterrupted run would have evaluated this step, and this one has not."""
    strategy, step = args.eval_strategy, state.global_step
    if step == 0 or any(e["step"] == step and "eval_loss" in e for e in state.log_history):
        return False
    if strategy == "epoch":
        ends = state.epoch == int(state.epoch) or step >= state.max_steps
        return bool(ends and state.epoch >= args.eval_delay)
    return bool(strategy == "steps" and step % state.eval_steps == 0 and step >= args.eval_delay)


def finish_checkpoint(trainer: Any) -> None:
    """Add the running metrics; when all processes have written their part, seal it.

    Returns in no process before it is sealed in all: the first that ends takes the others with it.
    """
    import torch

    folder = Path(trainer.args.output_dir) / f"checkpoint-{trainer.state.global_step}"
    keep_answers(trainer, folder)
    _write_model_on_this_host(trainer, folder)
    loss = trainer._tr_loss.detach().clone()
    if trainer.args.world_size > 1:
        torch.distributed.all_reduce(loss)  # also the barrier that the seal needs
        loss /= trainer.args.world_size
    if trainer.args.should_save:
        _seal_with_meters(trainer, folder, loss.item())
    if trainer.args.world_size > 1:
        torch.distributed.barrier()


def _seal_with_meters(trainer: Any, folder: Path, loss: float) -> None:
    meters = {
        "loss": loss,
        "last_logged_step": trainer._globalstep_last_logged,
        "total_train_tokens": getattr(trainer, "_total_train_tokens", None),
        "train": _plain_metrics(trainer),
    }
    (folder / METERS).write_text(json.dumps(meters), encoding="utf-8")
    carry(folder)
    seal(folder, trainer.args.process_index)


def _write_model_on_this_host(trainer: Any, folder: Path) -> None:
    """On every host but the first, whose rank 0 alone may write weights for transformers.

    Hosts share no disk, so each needs them to resume from, and to load the best model. The shards
    of one that the processes share are written by those that hold them.
    """
    first = trainer.args.process_index == 0
    sharded = (
        trainer.is_fsdp_enabled
        or trainer.is_deepspeed_enabled
        or trainer.is_distributed_loading_by_transformers
    )
    if first or sharded or not trainer.args.should_save:
        return
    with _allowed_to_write(trainer.model):
        trainer._save(str(folder))


@contextmanager
def _allowed_to_write(model: Any) -> Iterator[None]:
    """`save_on_each_node` does not reach `save_pretrained`, which asks for the global rank."""
    parts: list[Any] = [part for part in model.modules() if isinstance(part, PreTrainedModel)]
    for part in parts:
        part.should_save_on_this_rank = bool  # of `is_main_process`
    try:
        yield
    finally:
        for part in parts:
            del part.should_save_on_this_rank


def _plain_metrics(trainer: Any) -> dict[str, list[float]]:
    metrics = getattr(trainer, "_metrics", None) or {}
    return {
        name: values
        for name, values in dict(metrics.get("train", {})).items()
        if isinstance(values, list) and all(isinstance(v, int | float) for v in values)
    }


def restore_meters(trainer: Any, checkpoint: Path) -> None:
    """The other half of `finish_checkpoint`; a checkpoint of another tool has no such file."""
    path = checkpoint / METERS
    if not path.is_file():
        return
    meters = json.loads(path.read_text(encoding="utf-8"))
    trainer._tr_loss += meters["loss"]
    trainer._globalstep_last_logged = meters["last_logged_step"]
    if meters["total_train_tokens"] is not None:
        trainer._total_train_tokens = meters["total_train_tokens"]
    for name, values in meters["train"].items():
        trainer._metrics["train"][name].extend(values)


def agreed_checkpoint(folder: Path, world_size: int) -> Path | None:
    """The newest checkpoint that every process finds whole; hosts may not share a disk."""
    steps = _whole_steps_of_all(folder, world_size)
    common = set.intersection(*steps)
    if not common and any(steps):
        raise UserError(
            "holds no checkpoint that every host has whole",
            field="checkpoints",
            value=str(folder),
            fix="give all hosts the same checkpoints, or none to start anew",
        )
    return folder / f"checkpoint-{max(common)}" if common else None


def is_saved_everywhere(folder: Path, step: int, world_size: int) -> bool:
    """Whether every process finds that step's checkpoint whole: all act on the same answer."""
    return all(step in steps for steps in _whole_steps_of_all(folder, world_size))


def _whole_steps_of_all(folder: Path, world_size: int) -> list[set[int]]:
    own = set(whole_steps(folder))
    if world_size == 1:
        return [own]
    import torch

    steps: list[Any] = [None] * world_size
    torch.distributed.all_gather_object(steps, own)
    return steps


def random_state() -> Any:
    """All generators that training draws from."""
    import numpy
    import torch

    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else None
    return random.getstate(), numpy.random.get_state(), torch.get_rng_state(), cuda


def set_random_state(state: Any) -> None:
    """Back to what `random_state` returned."""
    import numpy
    import torch

    python, arrays, tensors, cuda = state
    random.setstate(python)
    numpy.random.set_state(arrays)
    torch.set_rng_state(tensors)
    if cuda is not None:
        torch.cuda.set_rng_state_all(cuda)
