"""Out of memory: what to tell, and the second try with less of it.

The job starts again in new processes, from its last checkpoint. First it computes activations anew
in the backward pass, unless the settings say whether it is to. With `auto_find_batch_size` it then
takes a smaller batch and as much more accumulation: the optimizer sees the same batches of rows.
(The library's own version keeps the half-trained weights, lowers the batch by a tenth, and changes
the global batch.)
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sm_train.platform.stopping import children

HALVINGS = "SM_TRAIN_HALVINGS"
RECOMPUTE = "SM_TRAIN_RECOMPUTE"
WHILE_TRAINING = "while training"
"""A note of an error: before the first step, less activations are of no help."""
_ASKS = ("activation_checkpointing", "gradient_checkpointing")
_MARK = "SM_TRAIN_MEMORY_MARK"
_SIGNS = ("out of memory", "can't allocate memory", "cannot allocate memory")


def is_out_of_memory(error: BaseException) -> bool:
    """GPU or host memory; torch has no common class for them."""
    return isinstance(error, MemoryError) or any(sign in str(error).lower() for sign in _SIGNS)


def out_of_memory_message(error: BaseException) -> str:
    """The cause and what to lower."""
    first = (str(error).splitlines() or [type(error).__name__])[0]
    return (
        f"out of memory: {first} Fix: halve per_device_train_batch_size and double "
        "gradient_accumulation_steps (auto_find_batch_size does it by itself), lower max_length, "
        "set activation_checkpointing or use_peft to true."
    )


def halvings() -> int:
    """How often the batch has been halved already."""
    return int(os.environ.get(HALVINGS, "0"))


def smaller_batch(batch: int, accumulation: int, times: int) -> tuple[int, int]:
    """Batch and accumulation after `times` halvings; their product stays what it was."""
    whole = batch * accumulation
    for _ in range(times):
        batch = max((d for d in range(1, batch // 2 + 1) if batch % d == 0), default=1)
    return batch, whole // batch


def set_mark(path: Path) -> None:
    """Tell workers where to note that memory was the cause: torchrun hides their exit codes."""
    path.unlink(missing_ok=True)
    os.environ[_MARK] = str(path)


@dataclass(frozen=True)
class Retry:
    """How the job starts again: in words, and for the new process."""

    said: str
    environment: Mapping[str, str]


def retry(config: Any, error: BaseException) -> Retry | None:
    """What is left to try after an error; None where it is not memory, or nothing is left."""
    if not is_out_of_memory(error):
        return None
    training = WHILE_TRAINING in getattr(error, "__notes__", ())
    open_to_us = may_recompute(config) and not recomputes()
    if training and open_to_us:
        return Retry("with activations computed anew", {RECOMPUTE: "1"})
    if can_shrink(config):
        return Retry("with a smaller batch", {HALVINGS: str(halvings() + 1)})
    return None


def may_recompute(config: Any) -> bool:
    """Whether the settings leave open if activations are computed anew; TRL's methods can."""
    asked = any(config.training.get(name) is not None for name in _ASKS)
    return config.method.training_config.startswith("trl") and not asked


def recomputes() -> bool:
    """Whether this process, or the one before it, has settled to compute activations anew."""
    return os.environ.get(RECOMPUTE) == "1"


def note_for_launcher(chosen: Retry) -> None:
    """In a worker: the process that started it may start all again in this way."""
    Path(os.environ[_MARK]).write_text(json.dumps(dict(chosen.environment)), encoding="utf-8")


def follow_note(mark: Path) -> bool:
    """In that process: settle what the workers have noted. False where they have not."""
    if not mark.exists():
        return False
    os.environ.update(json.loads(mark.read_text(encoding="utf-8")))
    mark.unlink()
    return True


def start_again(chosen: Retry) -> None:
    """Replace this process by a new one of the job; nothing of the old one stays in memory."""
    for child in children(os.getpid()):
        os.kill(child, signal.SIGKILL)
    sys.stdout.flush()
    os.environ.update(chosen.environment)
    os.execv(sys.executable, [sys.executable, "-m", "sm_train.entry"])  # noqa: S606


def can_shrink(config: Any) -> bool:
    """Whether the user allows it and there is something left to halve."""
    batch = int(config.training.get("per_device_train_batch_size") or 8)
    accumulation = int(config.training.get("gradient_accumulation_steps") or 1)
    smaller = smaller_batch(batch, accumulation, halvings())[0]
    return bool(config.training.get("auto_find_batch_size")) and smaller > 1
