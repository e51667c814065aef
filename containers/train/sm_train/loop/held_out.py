"""Scores of TRL's trainers on held-out rows, however these are batched and shared out.

TRL takes the mean of each batch, and then the mean of the batches: a short last batch counts as
much as a full one, one of short answers as much as one of long ones, and where several processes
share the rows those that fill up the last batch count twice. Here every batch counts by what its
mean is made of.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sm_train.settings.settings import HeldOut

LOSS, _NLL, _REST = "loss", "eval_nll_loss", "loss of rows"
_LEAST = ("min_reward", "clip_ratio/low_min", "sampling/importance_sampling_ratio/min")
_MOST = ("max_reward", "clip_ratio/high_max", "sampling/importance_sampling_ratio/max")
_LENGTHS = ("completions/{}_length", "completions/{}_terminated_length")
_EXTREMES = {
    **dict.fromkeys((*_LEAST, *(name.format("min") for name in _LENGTHS)), min),
    **dict.fromkeys((*_MOST, *(name.format("max") for name in _LENGTHS)), max),
    "sampling/sampling_logp_difference/max": max,
}


class Scores:
    """What is measured in one evaluation, batch by batch."""

    def __init__(self, trainer: Any, kind: HeldOut) -> None:
        self._trainer = trainer
        self._kind = kind
        self._last_rows = 0  # of all processes in the last batch, where it is not full
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

    def step(self, model: Any, inputs: Any, *rest: Any, **named: Any) -> Any:
        """One batch, without the rows that only fill it up."""
        self._kept().clear()
        own, real = self._own(inputs)
        weights = self._weights(own, real)
        with self._alone():
            result = self._step(model, own, *rest, **named)
        values = {name: listed[-1] for name, listed in self._kept().items() if listed}
        values[LOSS] = float(result[0].mean())
        if _NLL in values:
            values[_REST] = values.pop(LOSS) - self._nll_share() * values[_NLL]
        self._batches.append((values, weights))
        return result

    def loop(self, dataloader: Any, *arguments: Any, **named: Any) -> Any:
        """An evaluation, whose figures are put together from all processes at its end."""
        from accelerate.utils import gather_object

        self._batches.clear()
        self._begin(dataloader)
        output = self._loop(dataloader, *arguments, **named)
        together = self._settled(weighed(gather_object(list(self._batches))))
        prefix = named.get("metric_key_prefix", "eval")
        if f"{prefix}_{LOSS}" in output.metrics:
            output.metrics[f"{prefix}_{LOSS}"] = together[LOSS]
        kept = self._kept()
        kept.update({name: [value] for name, value in together.items() if name != LOSS})
        return output

    def _begin(self, dataloader: Any) -> None:
        """See how many rows the last batch has; accelerate counts those of the data set alone."""
        rows = len(dataloader.dataset) * self._repeats()
        self._last_rows = rows % (getattr(dataloader, "total_batch_size", 0) or rows or 1)

    def _repeats(self) -> int:
        """How often each row comes."""
        return 1

    def _own(self, inputs: Any) -> tuple[dict[str, Any], int]:
        """What this process measures of a batch, and how many rows that are not filling."""
        return self._without_filling(inputs)

    def _settled(self, together: dict[str, float]) -> dict[str, float]:
        """The figures of all rows, with those that follow from others."""
        if _NLL in together:
            together[LOSS] = together.pop(_REST) + self._nll_share() * together[_NLL]
        return together

    def _nll_share(self) -> float:
        """How much of the chosen answers' loss, a mean of tokens, is in the loss."""
        return float(getattr(self._trainer, "cpo_alpha", 1.0))

    def _kept(self) -> Any:
        """Where the trainer itself lists what it measures, by name."""
        kept = getattr(self._trainer, "_metrics", None)
        return (self._trainer._stored_metrics if kept is None else kept)["eval"]

    def _without_filling(self, inputs: dict[str, Any]) -> tuple[dict[str, Any], int]:
        """The batch's own rows, but one at least, and how many they are."""
        rows = _length(inputs) // self._kind.sequences
        if self._trainer.args.world_size == 1 or not self._in_short_batch():
            return inputs, rows
        before = self._trainer.accelerator.process_index * rows
        real = min(max(self._last_rows - before, 0), rows)
        sequences, own = self._kind.sequences * rows, max(real, 1)
        return {name: _first(value, sequences, rows, own) for name, value in inputs.items()}, real

    def _in_short_batch(self) -> bool:
        state = self._trainer.accelerator.gradient_state
        return bool(self._last_rows and state.end_of_dataloader)

    def _weights(self, inputs: Mapping[str, Any], real: int) -> dict[str, float]:
        """What each mean of tokens is made of; `rows` goes for all others."""
        weights = {"rows": float(real)}
        if not self._kind.of_tokens:
            return weights
        counts = [float(part.sum()) for part in self._learnt(inputs).chunk(self._kind.sequences)]
        for name, places in self._kind.of_tokens.items():
            weights[name] = sum(counts[place] for place in places) if real else 0.0
        return weights

    def _learnt(self, inputs: Mapping[str, Any]) -> Any:
        """Of each sequence, which of the tokens that follow another one are learnt."""
        mask = inputs[self._kind.mask][..., 1:]
        return (mask != -100) if self._kind.mask.endswith("labels") else mask

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """What is measured is that of this process: the others' is added at the end."""
        accelerator = self._trainer.accelerator
        own = lambda value, *_, **__: value  # noqa: E731 - stands in for three methods
        accelerator.gather = accelerator.gather_for_metrics = accelerator.reduce = own
        self._measuring = True
        try:
            yield
        finally:
            self._measuring = False
            del accelerator.gather, accelerator.gather_for_metrics, accelerator.reduce


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
    means = {}
    for name in dict.fromkeys(name for values, _ in batches for name in values):
        parts = [
            (float(values[name]), weights.get(name, weights["rows"]))
            for values, weights in batches
            if name in values
        ]
        counted = [(value, weight) for value, weight in parts if weight]
        if name in _EXTREMES and counted:
            means[name] = _EXTREMES[name](value for value, _ in counted)
        elif counted:
            total = sum(weight for _, weight in counted)
            means[name] = sum(value * weight for value, weight in counted) / total
        else:
            means[name] = parts[-1][0]
    return means
