"""Answers that an online method samples while it trains, with their rewards, for log and file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from sm_train.results.samples import Sample, log_samples, show_samples


class CompletionsCallback(TrainerCallback):  # type: ignore[misc]
    """Beside each log event of GRPO, RLOO and distillation, the last answers that it is about."""

    def __init__(self, trainer: Any, folder: Path) -> None:
        self._trainer, self._folder = trainer, folder

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        """TRL has gathered them from all processes."""
        if not state.is_world_process_zero or not logs:
            return
        timed = next((key for key in logs if key.endswith("_runtime")), "")
        prefix = timed.removesuffix("_runtime") or "train"
        samples = self._samples()
        if prefix == "train":
            if "loss" in logs:
                log_samples(prefix, samples)
        else:
            show_samples(self._folder, state.global_step, prefix, samples)

    def _samples(self) -> list[Sample]:
        kept = self._trainer._logs
        rewards = list(zip(*kept.get("rewards", {}).values(), strict=False))
        pairs = list(zip(kept["prompt"], kept["completion"], strict=False))
        return [
            Sample(
                _text(prompt),
                _text(completion),
                reward=self._together(rewards[place]) if place < len(rewards) else None,
            )
            for place, (prompt, completion) in enumerate(pairs)
        ]

    def _together(self, rewards: Sequence[float]) -> float:
        """The sum that the method learns from; a reward that does not apply is no number."""
        weights = getattr(self._trainer, "reward_weights", None)
        factors = [1.0] * len(rewards) if weights is None else list(map(float, weights))
        parts = zip(rewards, factors, strict=True)
        return sum(value * factor for value, factor in parts if not math.isnan(value))


def _text(turns: Any) -> str:
    """A text, or the last message of several."""
    if isinstance(turns, list):
        return str(turns[-1].get("content", "")) if turns else ""
    return str(turns)


def show_completions(trainer: Any, folder: Path) -> None:
    """Add the callback to a trainer that keeps what it samples; leaves the others alone."""
    if "completion" in (getattr(trainer, "_logs", None) or {}):
        trainer.add_callback(CompletionsCallback(trainer, folder))
