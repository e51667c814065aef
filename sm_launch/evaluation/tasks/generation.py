"""Generated text against a reference: exact match, ROUGE, BLEU, chrF."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sm_launch.errors import UserInputError
from sm_launch.evaluation.conversations import asked_and_expected
from sm_launch.evaluation.example import Example, Row
from sm_launch.evaluation.final_answer import check_pattern, same_answer
from sm_launch.evaluation.likelihood import LOG_LIKELIHOOD, TOKENS, likelihood_statistic
from sm_launch.evaluation.overlap import Overlap, needs
from sm_launch.evaluation.result import Prediction
from sm_launch.evaluation.task import Statistic, Task, mean_of_values
from sm_launch.evaluation.wire import WireError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ROUGE = ("rouge1", "rouge2", "rougeL")
DEFAULT_NEW_TOKENS = 128
_PROMPTS = ("prompt", "question", "input")
_CONVERSATIONS = ("messages", "conversations")


class TextGeneration(Task):
    """Rows have `prompt` and `completion`, or `messages` that end with the expected answer; of
    preferences the expected answer is the `chosen` one."""

    name = "text-generation"
    main_metric = "rougeL"
    DEFAULT_COLUMNS = ("prompt", "completion")

    def __init__(self, *, answer_pattern: str | None = None, **settings: Any) -> None:
        super().__init__(**settings)
        check_pattern(answer_pattern)
        self._answer_pattern = answer_pattern
        self._with_tools: set[int] = set()
        # Reading a text back with its prompt would count the prompt as right.
        self.parameters = {
            "max_new_tokens": DEFAULT_NEW_TOKENS,
            **self.parameters,
            "return_full_text": False,
        }

    def default_columns(self, data_columns: Sequence[str]) -> tuple[str, str]:
        prompt = next((name for name in _PROMPTS if name in data_columns), None)
        talk = next((name for name in _CONVERSATIONS if name in data_columns), None)
        if talk is not None and "prompt" not in data_columns:
            return talk, talk
        if "chosen" in data_columns and "completion" not in data_columns:
            # Preferences: the better answer is what is expected, behind its prompt or within it.
            return prompt or "chosen", "chosen"
        return self.DEFAULT_COLUMNS

    def example(self, index: int, row: Row) -> Example:
        _refuse_images(row)
        asked, gold = asked_and_expected(row, self.text_column, self.label_column)
        if isinstance(asked, str):
            return Example(index, asked, gold)
        if row.get("tools"):
            self._with_tools.add(index)
        shown = "\n".join(f"{m['role']}: {m['content']}" for m in asked)
        return Example(index, shown, gold, asked)

    def settle(self, examples: Sequence[Example]) -> list[str]:
        count = sum(example.index in self._with_tools for example in examples)
        if not count:
            return []
        return [f"{count} rows have tools, which are not sent: the model is asked without them"]

    def read(self, example: Example, answer: Any) -> Prediction:
        first = answer[0] if isinstance(answer, list) and answer else answer
        text = first.get("generated_text") if isinstance(first, dict) else None
        if isinstance(text, list) and text and isinstance(text[-1], dict):
            text = text[-1].get("content")  # HF pipelines answer chats by the whole chat
        if not isinstance(text, str):
            raise WireError(f"no generated_text in the answer: {str(answer)[:120]}")
        return Prediction(example.index, example.text, example.gold, text, slices=example.slices)

    def as_label(self, answer: Any) -> Any:
        return self.read(Example(0, "", ""), answer).predicted

    def score(self, prediction: Prediction) -> Prediction:
        text, gold = prediction.predicted, prediction.gold
        pattern = self._answer_pattern
        same = same_answer(text, gold, pattern) if pattern else text.split() == gold.split()
        values = {"exact_match": float(same)}
        scored = self._rouge.score(gold, text)
        values |= {name: float(scored[name].fmeasure) for name in ROUGE}
        return replace(prediction, values=values)

    @cached_property
    def _rouge(self) -> Any:
        try:
            from rouge_score.rouge_scorer import RougeScorer
        except ImportError:
            raise needs("rouge-score") from None
        return RougeScorer(ROUGE, use_stemmer=False, tokenizer=_WordTokenizer())

    def prepare(self) -> None:
        """Fails before the first request where a library is missing."""
        _ = self._rouge, self._overlap

    @cached_property
    def _overlap(self) -> Overlap:
        return Overlap()

    def statistic(self, predictions: Sequence[Prediction]) -> Statistic:
        """Means of the rows' values, BLEU and chrF of all rows as one text.

        Loss and perplexity weigh each token alike, not each row.
        """

        means = mean_of_values(
            [replace(p, values=_without(p.values, LOG_LIKELIHOOD, TOKENS)) for p in predictions]
        )
        likelihood = likelihood_statistic(predictions)
        overlap = self._overlap.statistic([(p.predicted, p.gold) for p in predictions])

        def of(rows: NDArray[np.int64]) -> dict[str, float]:
            return means(rows) | overlap(rows) | likelihood(rows)

        return of


def _refuse_images(row: Row) -> None:
    """An answer about an image that was not sent would count as wrong."""
    column = next((name for name in ("images", "image") if row.get(name)), None)
    if column is not None:
        raise UserInputError(
            "the rows have images, which an evaluation does not send",
            field="data",
            value=column,
            fix="take test_loss and test_mean_token_accuracy of the training's test channel "
            "(eval_results.json in the artefact); or send each image as a data: URL in an "
            "image_url part of its message",
        )


def _without(values: Mapping[str, float], *names: str) -> dict[str, float]:
    return {name: value for name, value in values.items() if name not in names}


class _WordTokenizer:
    """Words of any script: the library's own tokenizer keeps ASCII letters and digits only."""

    def tokenize(self, text: str) -> list[str]:
        import regex

        return list(regex.findall(r"[\p{L}\p{M}\p{N}]+", text.lower()))


TASK = TextGeneration
