"""Texts out of texts, as summaries and translations: measured as generated text is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sm_launch.evaluation.example import Example
from sm_launch.evaluation.result import Prediction
from sm_launch.evaluation.tasks.generation import TextGeneration

_ANSWERS = ("summary_text", "translation_text")
"""What the pipelines of these tasks call an answer, where HF_TASK names one."""


class Text2TextGeneration(TextGeneration):
    """Rows have `source` and `target`, or `prompt` and `completion`.

    Sources are sent as they stand: the server puts the model's own prefix before them.
    """

    name = "text2text-generation"
    DEFAULT_COLUMNS = ("source", "target")
    trained_by = "seq2seq"
    text_key = "source_column"
    label_key = "target_column"

    def default_columns(self, data_columns: Sequence[str]) -> tuple[str, str]:
        if "source" not in data_columns and "prompt" in data_columns:
            return "prompt", "completion"
        return self.DEFAULT_COLUMNS

    def read(self, example: Example, answer: Any) -> Prediction:
        first = answer[0] if isinstance(answer, list) and answer else answer
        if isinstance(first, dict) and "generated_text" not in first:
            text = next((first[name] for name in _ANSWERS if name in first), None)
            first = {**first, "generated_text": text}
        return super().read(example, first)


TASK = Text2TextGeneration
