"""Which rows come when: batches of texts of like length for training, the data's order for scores.

transformers' own sampler by length draws from the global generator, so a run that is resumed in the
middle of an epoch would see other batches than an uninterrupted one; and it reorders what is
evaluated as well.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch.utils.data import SequentialSampler
from transformers import Trainer

from sm_train.errors import UserError
from sm_train.loop.class_weights import ClassWeights

_BATCHES_TOGETHER = (
    50  # within so many shuffled batches rows are sorted: short enough to stay random
)


class LengthGrouped:
    """Indices of all rows: shuffled, sorted within chunks, chunks cut into shuffled batches."""

    def __init__(self, lengths: Sequence[int], batch: int, seed: int) -> None:
        self.lengths = lengths
        self.batch = batch
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Another order for another epoch; the trainer calls this."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        chance = random.Random(f"{self.seed}-{self.epoch}")  # noqa: S311 - not a secret
        order = list(range(len(self.lengths)))
        chance.shuffle(order)
        chunk = self.batch * _BATCHES_TOGETHER
        grouped: list[int] = []
        for start in range(0, len(order), chunk):
            grouped += sorted(order[start : start + chunk], key=lambda i: -self.lengths[i])
        batches = [grouped[i : i + self.batch] for i in range(0, len(grouped), self.batch)]
        short = batches.pop() if len(batches[-1]) < self.batch else []
        chance.shuffle(batches)
        # The longest batch first: if memory is too small, it shows at once.
        longest = max(range(len(batches)), key=lambda i: self._width(batches[i]), default=None)
        if longest is not None:
            batches[0], batches[longest] = batches[longest], batches[0]
        return iter([index for batch in [*batches, short] for index in batch])

    def _width(self, batch: Sequence[int]) -> int:
        return max(self.lengths[index] for index in batch)


class LengthGroupedSampling(Trainer):  # type: ignore[misc]
    """Gives a trainer a `group_by_length` whose batches are the same after a resume."""

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        if self.args.train_sampling_strategy != "group_by_length":
            return super()._get_train_sampler(train_dataset)
        batch = self.args.train_batch_size * self.args.gradient_accumulation_steps
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        # The argument has lost the column of lengths: the model does not take it.
        return LengthGrouped(token_counts(self.train_dataset), batch, seed)


def token_counts(dataset: Any) -> list[int]:
    """The column `length`, or what a look at the tokens tells."""
    if "length" in dataset.column_names:
        return list(dataset["length"])
    import pyarrow.compute as pc

    tokens = dataset.select_columns("input_ids").with_format("arrow")[:]["input_ids"]
    return [int(count) for count in pc.list_value_length(tokens).to_pylist()]


def evaluate_in_order(trainer: Any) -> None:
    """Let the trainer evaluate each row once, in the order of the data, however it trains.

    Scores look up by its place what the row of a prediction was. Under `group_by_length`
    transformers reorders what is evaluated, and `dataloader_drop_last` (which
    sentence-transformers sets where there are several processes) leaves the last rows out.
    TRL's online methods, which repeat each prompt, keep their own sampler.
    """
    if type(trainer)._get_eval_sampler is Trainer._get_eval_sampler:
        trainer._get_eval_sampler = SequentialSampler
    make = trainer.get_eval_dataloader

    def of_all_rows(dataset: Any = None) -> Any:
        with _keeping_last_batch(trainer.args):
            return make(dataset)

    trainer.get_eval_dataloader = of_all_rows


@contextmanager
def _keeping_last_batch(arguments: Any) -> Iterator[None]:
    chosen = arguments.dataloader_drop_last
    arguments.dataloader_drop_last = False
    try:
        yield
    finally:
        arguments.dataloader_drop_last = chosen


def check_sampling(trainer: Any) -> None:
    """Raise UserError for an order by length where the trainer's rows have no `input_ids`.

    The trainers of pairs fail in the middle of a library then, that of embeddings ignores it.
    """
    strategy = str(trainer.args.train_sampling_strategy)
    columns = getattr(trainer.train_dataset, "column_names", None) or ()
    if strategy in ("group_by_length", "batch_rebalance") and "input_ids" not in columns:
        raise UserError(
            "this method has no rows that could be ordered by their length",
            field="train_sampling_strategy",
            value=strategy,
            fix="use random or sequential",
        )


class LengthGroupedTrainer(LengthGroupedSampling):
    """The Trainer of the classification methods; `weights`: of their classes, or None."""

    def __init__(
        self, *arguments: Any, weights: ClassWeights | None = None, **settings: Any
    ) -> None:
        self._weights = weights
        loss = weights.loss if weights is not None else None
        super().__init__(*arguments, compute_loss_func=loss, **settings)
        # Classification losses are means and ignore the count of items that the trainer passes, yet
        # it would then leave out the division by accumulation steps and multiply by processes.
        self.model_accepts_loss_kwargs = False

    def _get_num_items_in_batch(self, batch_samples: Any, device: Any) -> Any:
        """With class weights, the weights of all labels of the step, of all processes."""
        if self._weights is None or not batch_samples or "labels" not in batch_samples[0]:
            return super()._get_num_items_in_batch(batch_samples, device)
        total = sum(self._weights.total(batch["labels"]) for batch in batch_samples).to(device)
        if self.args.world_size > 1 and self.args.average_tokens_across_devices:
            total = self.accelerator.gather(total).sum()
        return total
