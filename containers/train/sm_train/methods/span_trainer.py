"""The trainer of question answering: evaluation scores the answers of all windows together."""

from __future__ import annotations

from typing import Any

from sm_train.loop.sampling import LengthGroupedTrainer
from sm_train.methods.spans import Windows, accepted, best_answers, plain, word_f1
from sm_train.results.metrics import cross_entropy


class SpanTrainer(LengthGroupedTrainer):
    """A Trainer that scores spans of text, which needs the windows beside the logits."""

    def __init__(
        self, *arguments: Any, window_sets: dict[str, Any], max_answer_length: int,
        may_be_none: bool, **rest: Any
    ) -> None:  # fmt: skip
        super().__init__(*arguments, **rest)
        self.window_sets = window_sets
        self.max_answer_length = max_answer_length
        self.may_be_none = may_be_none
        self.compute_metrics = self._scores
        self._prefix = "eval"

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Remember which windows the logits will be of."""
        self._prefix = metric_key_prefix
        scores: dict[str, float] = super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)
        return scores

    def _scores(self, prediction: Any) -> dict[str, float]:
        asked: Windows = self.window_sets[self._prefix]
        starts, ends = prediction.predictions[:2]
        if list(prediction.label_ids[0]) != list(asked.dataset["start_positions"]):
            raise RuntimeError("the predictions are of other rows than those to be scored")
        answers = best_answers(asked, starts, ends, self.max_answer_length, self.may_be_none)
        pairs = list(zip(answers, map(accepted, (r["texts"] for r in asked.rows)), strict=True))
        exact = [max(float(plain(a) == plain(t)) for t in texts) for a, texts in pairs]
        overlap = [max(word_f1(a, t) for t in texts) for a, texts in pairs]
        return {
            "loss": _loss(asked, starts, ends),
            "exact_match": sum(exact) / len(exact),
            "f1": sum(overlap) / len(overlap),
        }


def _loss(asked: Windows, starts: Any, ends: Any) -> float:
    """The mean of both ends' losses, over each window's own tokens: not over its padding."""
    import numpy

    columns = asked.dataset.with_format("numpy")
    own = numpy.arange(starts.shape[1])[None] < columns["length"][:][:, None]
    losses = [
        cross_entropy(numpy.where(own, logits, -numpy.inf), columns[name][:])
        for logits, name in ((starts, "start_positions"), (ends, "end_positions"))
    ]
    return sum(losses) / len(losses)
