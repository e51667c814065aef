"""One label a text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sm_launch.evaluation.examples import Example, Row, required_text
from sm_launch.evaluation.metrics import classification_metrics, classification_statistic
from sm_launch.evaluation.result import Metrics, Prediction
from sm_launch.evaluation.task import Statistic, Task
from sm_launch.evaluation.wire import decode


class TextClassification(Task):
    """Accuracy, precision, recall, F1, ROC-AUC, calibration."""

    name = "text-classification"
    main_metric = "f1_macro"
    DEFAULT_COLUMNS = ("text", "label")

    def example(self, index: int, row: Row) -> Example:
        text = required_text(row, self.text_column, "text")
        gold = required_text(row, self.label_column, "label").strip()
        return Example(index, text, gold)

    def encode(self, examples: Sequence[Example]) -> bytes:
        # `top_k` null means the scores of all labels.
        parameters = {"top_k": None, **self.parameters}
        payload = {"inputs": [e.text for e in examples], "parameters": parameters}
        return json.dumps(payload, ensure_ascii=False).encode()

    def decode(self, body: bytes, examples: Sequence[Example]) -> list[Prediction]:
        answers = decode(body, expected=len(examples))
        return [
            Prediction(e.index, e.text, e.gold, a.label, a.scores, slices=e.slices)
            for e, a in zip(examples, answers, strict=True)
        ]

    def predict(self, example: Example, answer: Any) -> Prediction:
        return self.decode(json.dumps([answer]).encode(), [example])[0]

    def metrics(self, predictions: Sequence[Prediction]) -> Metrics:
        return classification_metrics(predictions, self.labels)

    def statistic(self, predictions: Sequence[Prediction]) -> Statistic:
        return classification_statistic(predictions)
