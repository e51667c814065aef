"""Jobs whose scores can be told beforehand. As a script: the jobs that are named, on one rank.

The model is apart from its reference, as if it had learnt, and what it samples follows from the
prompt alone: drawn answers would be others in another batch.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock


@contextmanager
def repeatable() -> Iterator[None]:
    """Within it."""
    from trl import DistillationTrainer, GRPOTrainer, RLOOTrainer

    from sm_train.loop import fit

    score_by_rows = fit.score_by_rows

    def moved(trainer: Any, method: Any) -> None:
        for weights in trainer.model.parameters():
            weights.data.mul_(1.5)
        score_by_rows(trainer, method)

    with ExitStack() as changes:
        changes.enter_context(mock.patch.object(fit, "score_by_rows", moved))
        for kind in (DistillationTrainer, GRPOTrainer, RLOOTrainer):
            change = mock.patch.object(kind, "_generate_single_turn", answers)
            changes.enter_context(change)
        yield


def answers(trainer: Any, prompts: list[list[int]], *_: Any, **__: Any) -> Any:
    """Of other lengths for each prompt and each of its answers; every second one ends itself."""
    each = getattr(trainer, "num_generations", 1)
    texts = []
    for place, prompt in enumerate(prompts, trainer.accelerator.process_index * len(prompts)):
        seed = sum(prompt) + 3 * (place % each)
        end = trainer.eos_token_ids[:1] if seed % 2 else []
        texts.append([5 + (seed + step) % 40 for step in range(1 + seed % 6)] + end)
    return (texts, None) if type(trainer).__name__ == "GRPOTrainer" else texts


def main() -> None:
    """One after another, as a worker that torchrun has started."""
    from sm_train import entry
    from sm_train.contract import Paths
    from sm_train.platform.stopping import StopRequest

    with repeatable():
        for job in sys.argv[1:]:
            entry.run(Paths(Path(job)), StopRequest(), time.time())


if __name__ == "__main__":
    main()
