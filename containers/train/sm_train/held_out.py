"""Scores of TRL's trainers on held-out rows, however these are batched and shared out.

TRL takes the mean of each batch, and then the mean of the batches: a short last batch counts as
much as a full one, one of short answers as much as one of long ones, and where several processes
share the rows those that fill up the last batch count twice. Here every batch counts by what its
mean is made of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

_LOSS = "loss"
Weigh = Callable[[Mapping[str, Any]], float]


@dataclass(frozen=True)
class _Kind:
    """How a trainer's batches are made."""

    sequences: int
    """Of each row, one behind another along the first dimension of each tensor."""
    mask: str = ""
    """Which tokens are learnt."""
    of_tokens: Mapping[str, tuple[int, ...]] | None = None
    """Means over tokens: to which of a row's sequences their tokens belong."""


_PAIR = {"entropy": (0, 1), "mean_token_accuracy": (0,), "logits/chosen": (0,)}
_KINDS = {
    "sft": _Kind(1, "labels", dict.fromkeys((_LOSS, "entropy", "mean_token_accuracy"), (0,))),
    "dpo": _Kind(2, "completion_mask", {**_PAIR, "logits/rejected": (1,)}),
    "reward": _Kind(2),
    "cpo": _Kind(1),
    "orpo": _Kind(1),
}
"""Not those whose loss compares the rows of a batch, nor those that sample answers."""
_EXTREMES = {"min_reward": min, "max_reward": max}


def score_by_rows(trainer: Any, method: str) -> None:
    """Let a trainer of TRL weigh what it measures on held-out rows; leaves other trainers alone."""
    if method in _KINDS:
        _Scores(trainer, _KINDS[method]).install()


class _Scores:
    """What is measured in one evaluation, batch by batch."""

    def __init__(self, trainer: Any, kind: _Kind) -> None:
        self._trainer = trainer
        self._kind = kind
        self._batches: list[tuple[dict[str, float], dict[str, float]]] = []
        self._measuring = False

    def install(self) -> None:
        """Put itself around the trainer's own methods."""
        trainer = self._trainer
        self._step, self._loop = trainer.prediction_step, trainer.evaluation_loop
        self._items = trainer._get_num_items_in_batch
        trainer.prediction_step, trainer.evaluation_loop = self.step, self.loop
        trainer._get_num_items_in_batch = self.items

    def items(self, *arguments: Any, **named: Any) -> Any:
        """None while rows are measured: a loss is then the mean of this process's own batch."""
        return None if self._measuring else self._items(*arguments, **named)

    def step(self, model: Any, inputs: dict[str, Any], *rest: Any, **named: Any) -> Any:
        """One batch, without the rows that only fill it up."""
        inputs, real = self._without_filling(inputs)
        weights = self._weights(inputs, real)
        self._kept().clear()
        with self._alone():
            found = self._step(model, inputs, *rest, **named)
        values = {name: listed[-1] for name, listed in self._kept().items() if listed}
        values[_LOSS] = float(found[0].mean())
        self._batches.append((values, weights))
        return found

    def loop(self, *arguments: Any, **named: Any) -> Any:
        """An evaluation, whose figures are put together from all processes at its end."""
        from accelerate.utils import gather_object

        self._batches.clear()
        output = self._loop(*arguments, **named)
        together = weighed(gather_object(list(self._batches)))
        prefix = named.get("metric_key_prefix", "eval")
        if f"{prefix}_{_LOSS}" in output.metrics:
            output.metrics[f"{prefix}_{_LOSS}"] = together[_LOSS]
        kept = self._kept()
        kept.update({name: [value] for name, value in together.items() if name != _LOSS})
        return output

    def _kept(self) -> Any:
        """Where the trainer itself lists what it measures, by name."""
        kept = getattr(self._trainer, "_metrics", None)
        return (self._trainer._stored_metrics if kept is None else kept)["eval"]

    def _without_filling(self, inputs: dict[str, Any]) -> tuple[dict[str, Any], int]:
        """The batch's own rows, but one at least, and how many they are."""
        rows = _length(inputs) // self._kind.sequences
        state = self._trainer.accelerator.gradient_state
        if self._trainer.args.world_size == 1 or not state.end_of_dataloader or state.remainder < 1:
            return inputs, rows
        before = self._trainer.accelerator.process_index * rows
        real = min(max(state.remainder - before, 0), rows)
        sequences, own = self._kind.sequences * rows, max(real, 1)
        return {name: _first(value, sequences, rows, own) for name, value in inputs.items()}, real

    def _weights(self, inputs: Mapping[str, Any], real: int) -> dict[str, float]:
        """What each mean of tokens is made of; `rows` goes for all others."""
        weights = {"rows": float(real)}
        if not self._kind.of_tokens:
            return weights
        mask = inputs[self._kind.mask][..., 1:]
        learnt = (mask != -100) if self._kind.mask == "labels" else mask
        counts = [float(part.sum()) for part in learnt.chunk(self._kind.sequences)]
        for name, places in self._kind.of_tokens.items():
            weights[name] = sum(counts[place] for place in places) if real else 0.0
        return weights

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """What is measured is that of this process: the others' is added at the end."""
        accelerator = self._trainer.accelerator
        accelerator.gather = accelerator.gather_for_metrics = lambda value, *_, **__: value
        self._measuring = True
        try:
            yield
        finally:
            self._measuring = False
            del accelerator.gather, accelerator.gather_for_metrics


def _length(inputs: Mapping[str, Any]) -> int:
    import torch

    return next(len(v) for v in inputs.values() if isinstance(v, torch.Tensor) and v.dim())


def _first(value: Any, sequences: int, rows: int, own: int) -> Any:
    """The first rows of a tensor or list that has a place for each sequence or row."""
    import torch

    if isinstance(value, torch.Tensor) and value.dim() and len(value) == sequences:
        return torch.cat([part[:own] for part in value.split(rows)])
    return value[:own] if isinstance(value, list) and len(value) == rows else value


def weighed(batches: list[tuple[dict[str, float], dict[str, float]]]) -> dict[str, float]:
    """Figures of all rows from the batches' means and what each of those is made of."""
    found = {}
    for name in dict.fromkeys(name for values, _ in batches for name in values):
        parts = [
            (float(values[name]), weights.get(name, weights["rows"]))
            for values, weights in batches
            if name in values
        ]
        counted = [(value, weight) for value, weight in parts if weight]
        if name in _EXTREMES and counted:
            found[name] = _EXTREMES[name](value for value, _ in counted)
        elif counted:
            total = sum(weight for _, weight in counted)
            found[name] = sum(value * weight for value, weight in counted) / total
        else:
            found[name] = parts[-1][0]
    return found
