"""One label a text."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from typing import Any, ClassVar

from sm_launch.data.class_ids import ClassId
from sm_launch.data.labels import is_list
from sm_launch.errors import UserInputError
from sm_launch.evaluation.example import Example, Row, UnusableRow, required_text
from sm_launch.evaluation.metrics import classification_metrics, classification_statistic
from sm_launch.evaluation.result import Metrics, Prediction
from sm_launch.evaluation.task import Statistic, Task
from sm_launch.evaluation.thresholds import read_thresholds
from sm_launch.evaluation.wire import Answer, WireError, read_scores

_ROUNDING = 1e-6
_NAMELESS = re.compile(r"LABEL_\d+")
"""How transformers calls classes whose names nobody wrote into config.json."""


class TextClassification(Task):
    """Accuracy, precision, recall, F1, ROC-AUC, calibration."""

    name = "text-classification"
    labelled = calibrated = True
    several: ClassVar[bool] = False
    """Whether a text may have several labels."""
    main_metric = "f1_macro"
    DEFAULT_COLUMNS = ("text", "label")
    lists = True

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._numbers: set[int] = set()
        # The server is asked for all scores, and what becomes of them is decided here.
        asked = self.parameters.pop("threshold", None)
        self.thresholds = None if asked is None else read_thresholds(asked, several=self.several)
        if self.thresholds is not None:
            self.thresholds.check_labels(self.known_labels)

    def identity(self) -> dict[str, Any]:
        told = {} if self.thresholds is None else {"threshold": self.thresholds.asked}
        return {**super().identity(), **told}

    def example(self, index: int, row: Row) -> Example:
        required_text(row, self.label_column, "label")
        value = row[self.label_column]
        if is_list(value) and str(value).strip() not in self.known_labels:
            raise UnusableRow(
                f"several labels in column {self.label_column!r}: set evaluation.task to "
                "multi-label-classification where the model gives several"
            )
        return text_example(self, index, row, self.name_of(value))

    def name_of(self, value: Any) -> str:
        """The class's name; a number that is no name counts the model's classes, as in training.

        A number whose file gives it the name of one of them is that one. CSV and Parquet readers
        make floats of numbers with gaps between them.
        """
        if isinstance(value, ClassId) and (
            not self.known_labels or value.name in self.known_labels
        ):
            return value.name
        whole = isinstance(value, float) and value.is_integer()
        name = str(int(value) if whole else value).strip()
        known = self.known_labels
        if name in known or not (name.isdecimal() and int(name) < len(known)):
            return name
        self._numbers.add(int(name))
        return known[int(name)]

    def settle(self, examples: Sequence[Example]) -> list[str]:
        if not self._numbers:
            return []
        golds = {name for example in examples for name in self.labels_in(example.gold)}
        strange = sorted(golds - set(self.known_labels))
        if strange:
            raise UserInputError(
                f"numbers are read as the model's classes ({', '.join(self.known_labels[:20])}), "
                "and these are none",
                field=self.label_column,
                value=", ".join(strange[:20]),
                fix="write the names of the classes into the data",
            )
        shown = ", ".join(f"{n} = {self.known_labels[n]}" for n in sorted(self._numbers))
        return [f"the labels of the data are numbers, read as the model's classes: {shown}"]

    def encode(self, examples: Sequence[Example]) -> bytes:
        # `top_k` null means the scores of all labels.
        parameters = {"top_k": None, **self.parameters}
        inputs = [e.text if e.payload is None else e.payload for e in examples]
        payload = {"inputs": inputs, "parameters": parameters}
        return json.dumps(payload, ensure_ascii=False).encode()

    def read(self, example: Example, answer: Any) -> Prediction:
        scores = read_scores(answer)
        check_probabilities(scores, answer)
        return Prediction(
            example.index, example.text, example.gold, self._chosen(scores), scores.scores,
            slices=example.slices,
        )  # fmt: skip

    def as_label(self, answer: Any) -> Any:
        return self._chosen(read_scores(answer))

    def _chosen(self, answer: Answer) -> str:
        # One label alone is the server's decision.
        if self.thresholds is None or len(answer.scores) < 2:
            return answer.label
        return self.thresholds.best(answer.scores)

    def check_first(self, answers: Sequence[Any], golds: Collection[str]) -> None:
        read = []
        for answer in answers:
            try:
                read.append(read_scores(answer))
            except WireError:
                continue  # its row fails, and is named
        strange = [score for each in read if (score := _no_probability(each)) is not None]
        if strange:
            raise UserInputError(
                "the scores are no probabilities from 0 to 1",
                field="the endpoint's first answers",
                value=strange[0],
                fix="set evaluation.parameters to {function_to_apply: softmax}; evaluation.task to "
                "multi-label-classification where a text may have several labels, to "
                "text-regression where the model gives one number",
            )
        if self.thresholds is not None:
            self.thresholds.check_labels(max((each.scores for each in read), key=len, default={}))
        _check_names(read, {name for gold in golds for name in self.labels_in(gold)})

    def metrics(self, predictions: Sequence[Prediction]) -> Metrics:
        return classification_metrics(predictions, self.labels)

    def statistic(self, predictions: Sequence[Prediction]) -> Statistic:
        return classification_statistic(predictions)


def text_example(task: Task, index: int, row: Row, gold: str) -> Example:
    """A text, or the pair of two where the task has a column for the second."""
    text = required_text(row, task.text_column, "text")
    if task.pair_column is None:
        return Example(index, text, gold)
    second = required_text(row, task.pair_column, "second text")
    return Example(index, f"{text}\n{second}", gold, {"text": text, "text_pair": second})


def check_probabilities(scored: Answer, answer: Any) -> None:
    """Raise WireError where a score is below 0 or above 1."""
    if (strange := _no_probability(scored)) is not None:
        raise WireError(f"score {strange:g} is no probability: {str(answer)[:120]}")


def _no_probability(answer: Answer) -> float | None:
    scores = answer.scores.values()
    return next((s for s in scores if not -_ROUNDING <= s <= 1 + _ROUNDING), None)


def _check_names(answers: Sequence[Answer], golds: Collection[str]) -> None:
    """Refuse a model that knows none of the data's labels, as far as its answers tell."""
    named = {label for answer in answers for label in (*answer.scores, answer.label)}
    if not named or not golds or named & set(golds):
        return
    # One label an answer tells what the model chose, not all that it knows.
    knows_all = all(len(answer.scores) > 1 for answer in answers)
    if knows_all or len(named) > 1 or all(_NAMELESS.fullmatch(label) for label in named):
        raise UserInputError(
            f"the model knows none of these labels; it answers {', '.join(sorted(named)[:20])}",
            field="label_column",
            value=", ".join(sorted(golds)[:20]),
            fix="map the labels of the data, or write the names of the classes into the model's "
            "config.json (id2label)",
        )


TASK = TextClassification
