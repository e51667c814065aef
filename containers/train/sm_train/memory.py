"""Out of memory: what to tell, and the optional second try with half the batch.

With `auto_find_batch_size` the job starts again in new processes, from its last checkpoint, with a
smaller batch and as much more accumulation: the optimizer sees the same batches of rows. (The
library's own version keeps the half-trained weights, lowers the batch by a tenth, and changes the
global batch.)
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from sm_train.stopping import children

HALVINGS = "SM_TRAIN_HALVINGS"
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


def note_for_launcher() -> None:
    """In a worker: the process that started it may start all again with a smaller batch."""
    Path(os.environ[_MARK]).touch()


def start_again() -> None:
    """Replace this process by a new one of the job; nothing of the old one stays in memory."""
    for child in children(os.getpid()):
        os.kill(child, signal.SIGKILL)
    sys.stdout.flush()
    os.environ[HALVINGS] = str(halvings() + 1)
    os.execv(sys.executable, [sys.executable, "-m", "sm_train.entry"])  # noqa: S606


def can_shrink(config: Any) -> bool:
    """Whether the user allows it and there is something left to halve."""
    batch = int(config.training.get("per_device_train_batch_size") or 8)
    accumulation = int(config.training.get("gradient_accumulation_steps") or 1)
    smaller = smaller_batch(batch, accumulation, halvings())[0]
    return bool(config.training.get("auto_find_batch_size")) and smaller > 1
