"""From a classifier's scores to its answer, by thresholds of one's own, as its training decides."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sm_launch.errors import UserInputError

USUAL = 0.5
_FIELD = "evaluation.parameters.threshold"


@dataclass(frozen=True)
class Thresholds:
    """One number for all labels, or numbers by label; those left out have `USUAL` where a text may
    have several labels, else they share what is missing to 1."""

    asked: float | Mapping[str, float]
    several: bool

    def given(self, scores: Mapping[str, float]) -> list[str]:
        """The labels whose score reaches their threshold."""
        limits = self._limits(scores)
        return [label for label, score in scores.items() if score >= limits[label]]

    def best(self, scores: Mapping[str, float]) -> str:
        """The class whose score by its threshold is largest."""
        limits = self._limits(scores)
        return max(scores, key=lambda label: scores[label] / limits[label])

    def _limits(self, labels: Collection[str]) -> dict[str, float]:
        if not isinstance(self.asked, Mapping):
            return dict.fromkeys(labels, self.asked)
        left = max(len(labels) - len(self.asked), 1)
        usual = USUAL if self.several else (1 - sum(self.asked.values())) / left
        return {label: self.asked.get(label, usual) for label in labels}

    def check_labels(self, labels: Collection[str]) -> None:
        """Refuse thresholds of what is none of the model's labels, or that leave others nothing."""
        if not isinstance(self.asked, Mapping) or not labels:
            return
        if strange := sorted(set(self.asked) - set(labels)):
            raise UserInputError(
                f"names what is no label of the model: {', '.join(strange[:10])}",
                field=_FIELD,
                value=dict(self.asked),
                fix=f"its labels are {', '.join(list(labels)[:20])}",
            )
        if not self.several and len(self.asked) < len(labels) and sum(self.asked.values()) >= 1:
            raise UserInputError(
                "leaves nothing of 1 to the labels that it does not name",
                field=_FIELD,
                value=dict(self.asked),
                fix="name all labels, or give smaller numbers",
            )


def read_thresholds(value: Any, *, several: bool) -> Thresholds:
    """What job.yaml or the artefact says. Raises UserInputError for what is no threshold."""
    if isinstance(value, Mapping) and value:
        asked = {str(label): _number(number, several) for label, number in value.items()}
        return Thresholds(asked, several)
    if several:
        return Thresholds(_number(value, several), several)
    raise UserInputError(
        "one number is applied where a text may have several labels, and this task has one",
        field=_FIELD,
        value=value,
        fix="give numbers by label, such as {rare: 0.2}, or set evaluation.task to "
        "multi-label-classification",
    )


def _number(value: Any, several: bool) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and (0 <= value <= 1 if several else 0 < value < 1):
        return float(value)
    raise UserInputError(
        f"must be a number {'from 0 to 1' if several else 'above 0 and below 1'}, or such numbers "
        "by label",
        field=_FIELD,
        value=value,
        fix="give the score from which on a text has the label",
    )
