"""Class weights: what a rare class's rows count for in the loss of a classifier.

The loss is torch's CrossEntropyLoss(weight) of the whole step, whatever batches and processes its
rows are shared out to: the sum of the weighted losses by the sum of the weights. Where a text may
have several labels it is BCEWithLogitsLoss(pos_weight).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sm_train.errors import UserError
from sm_train.job import Job
from sm_train.log import print_line
from sm_train.results.label_sets import place_of
from sm_train.settings.settings import Config

BALANCED = "balanced"
HELP = (
    "What rows of each class count for in the loss: balanced (rows / (classes × rows of the class) "
    "of the train channel, as scikit-learn has it), or {class: weight}; classes left out count 1. "
    "Losses of held-out rows are not weighted."
)
_IGNORED = -100
_FIELD = "class_weights"


def check_class_weights(config: Config, unfit: str = "") -> None:
    """Refuse weights that are none, or that nothing would look at.

    Args:
        config: its `own` arguments have the class_weights.
        unfit: why this job has no classes; empty where it has.
    """
    asked = config.own.class_weights
    if asked is None:
        return
    if unfit:
        raise UserError(unfit, field=_FIELD, value=asked, fix="remove it")
    if config.training.get("label_smoothing_factor"):
        raise UserError(
            "contradicts another setting: label_smoothing_factor has a loss of its own",
            field=_FIELD,
            value=asked,
            fix="remove one of them",
        )
    if isinstance(asked, str):
        if asked != BALANCED:
            raise UserError(
                "is neither balanced nor a mapping", field=_FIELD, value=asked, fix=HELP
            )
        return
    bad = {name: weight for name, weight in asked.items() if not _is_weight(weight)}
    if bad or not asked:
        raise UserError(
            "a weight is a number above 0",
            field=_FIELD,
            value=bad or asked,
            fix="write {class: weight}, such as {rare: 5}",
        )


def _is_weight(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value) and value > 0


def check_weighted_classes(config: Config, labels: Sequence[str]) -> None:
    """Refuse weights of classes that the job does not have."""
    asked = config.own.class_weights
    if not isinstance(asked, dict):
        return
    strange = [name for name in asked if place_of(name, labels) is None]
    if strange:
        raise UserError(
            f"names what is no class: {', '.join(map(str, strange[:10]))}",
            field=_FIELD,
            value=asked,
            fix=f"the classes are {', '.join(labels[:20])}",
        )


@dataclass(frozen=True)
class ClassWeights:
    """The weighted loss of a step, in the parts that the trainer asks for."""

    weights: Sequence[float]
    several: bool = False
    """Whether a row may have several labels: the weights are then those of having one."""

    def total(self, labels: Any) -> Any:
        """What the losses of a batch's labels are divided by, as a tensor."""
        import torch

        if self.several:
            return torch.tensor(float(labels.numel()))
        counted = labels[labels != _IGNORED].cpu()
        return torch.tensor(self.weights)[counted].sum()

    def loss(self, outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Any:
        """The weighted losses of a batch by the total of its step (None: of the batch itself)."""
        from torch.nn import functional

        logits = outputs["logits"].float()
        weights = logits.new_tensor(self.weights)
        if self.several:
            summed = functional.binary_cross_entropy_with_logits(
                logits, labels.float(), pos_weight=weights, reduction="sum"
            )
        else:
            summed = functional.cross_entropy(
                logits.flatten(0, -2), labels.flatten(), weight=weights, reduction="sum"
            )
        total = self.total(labels) if num_items_in_batch is None else num_items_in_batch
        return summed / total.to(summed.device)


def settled_weights(
    job: Job, labels: Sequence[str], train: Any, *, several: bool = False
) -> ClassWeights | None:
    """What the job asks for, in numbers that the log tells; None where it asks for nothing.

    Args:
        job: its method's own arguments have the class_weights.
        labels: in the order of their ids.
        train: the train rows as the trainer gets them; `labels` are ids, lists of ids, or with
            `several` a 0 or 1 for each label.
        several: whether a row may have several labels.
    """
    asked = job.config.own.class_weights
    if asked is None:
        return None
    weights = ClassWeights(weights_of(asked, labels, train["labels"], several=several), several)
    if job.is_main:
        pairs = zip(labels, weights.weights, strict=True)
        shown = ", ".join(f"{name} {weight:.4g}" for name, weight in pairs)
        print_line(f"class weights in the training loss: {shown}")
    return weights


def weights_of(
    asked: str | Mapping[str, Any], labels: Sequence[str], targets: Iterable[Any], *, several: bool
) -> list[float]:
    """The weight of each label, in their order; see `settled_weights`."""
    if isinstance(asked, Mapping):
        chosen = {place_of(name, labels): float(weight) for name, weight in asked.items()}
        return [chosen.get(at, 1.0) for at in range(len(labels))]
    if several:
        rows = list(targets)
        counts = [sum(row[at] for row in rows) for at in range(len(labels))]
        return [(len(rows) - n) / n if 0 < n < len(rows) else 1.0 for n in counts]
    return _balanced(Counter(_flat(targets)), len(labels))


def _flat(targets: Iterable[Any]) -> Iterable[int]:
    for target in targets:
        yield from target if isinstance(target, list) else [target]


def _balanced(counts: Counter[int], classes: int) -> list[float]:
    """scikit-learn's: rows / (classes × rows of the class); no row of a class, no weight."""
    counts.pop(_IGNORED, None)
    scale = counts.total() / max(len(counts), 1)
    return [scale / counts[at] if counts[at] else 1.0 for at in range(classes)]
