"""The trainer of seq2seq: the loss of every target token alike, and scores of generated answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import Seq2SeqTrainer

from sm_train.loop.sampling import LengthGroupedSampling
from sm_train.results.generated_text import text_scores
from sm_train.results.samples import Sample, show_samples

IGNORED = -100


class Text2TextTrainer(LengthGroupedSampling, Seq2SeqTrainer):  # type: ignore[misc]
    """transformers' Seq2SeqTrainer, whose scores are those of all rows however they are batched.

    `sources`, `targets`: by split (`eval`, `test`) the texts that are read, and those that are
    expected, in the order of its rows. `folder`: for samples of the answers.
    """

    def __init__(
        self,
        *arguments: Any,
        sources: dict[str, Sequence[str]],
        targets: dict[str, Sequence[str]],
        folder: Path,
        **settings: Any,
    ) -> None:
        super().__init__(*arguments, compute_loss_func=self._token_loss, **settings)
        self.sources, self.targets, self.folder = sources, targets, folder
        self.compute_metrics = self._scores
        self._prefix = "eval"

    def _token_loss(self, outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Any:
        """The mean of all target tokens of a step: the models' own is one of each small batch, and
        takes no notice of gradient accumulation."""
        from torch.nn.functional import cross_entropy

        if self.label_smoother is not None:
            return self.label_smoother(outputs, labels, num_items_in_batch=num_items_in_batch)
        total = num_items_in_batch if num_items_in_batch is not None else (labels != IGNORED).sum()
        logits = outputs["logits"].float().flatten(0, 1)
        loss = cross_entropy(logits, labels.flatten(), ignore_index=IGNORED, reduction="sum")
        return loss / total

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval",
        **settings: Any,
    ) -> dict[str, float]:  # fmt: skip
        """Remember which rows the answers will be to."""
        self._prefix = metric_key_prefix
        scores: dict[str, float] = super().evaluate(
            eval_dataset, ignore_keys, metric_key_prefix, **settings
        )
        return scores

    def evaluation_loop(self, *arguments: Any, **settings: Any) -> Any:
        """Without the rows that fill up the last batch of several processes."""
        self.gather_function = self.accelerator.gather_for_metrics
        return super().evaluation_loop(*arguments, **settings)

    def prediction_step(
        self, model: Any, inputs: Any, prediction_loss_only: bool, ignore_keys: Any = None,
        **settings: Any,
    ) -> tuple[Any, Any, Any]:  # fmt: skip
        """Each row's loss and number of tokens and, where asked for, its generated answer."""
        import torch
        from torch.nn.functional import cross_entropy

        inputs = self._prepare_inputs(inputs)
        labels = inputs["labels"]
        with torch.no_grad(), self.compute_loss_context_manager():
            logits = model(**inputs)["logits"].float()
        losses = cross_entropy(
            logits.transpose(1, 2), labels, ignore_index=IGNORED, reduction="none"
        ).sum(dim=1)
        counts = (labels != IGNORED).sum(dim=1)
        measured: tuple[Any, ...] = (losses, counts)
        if self.args.predict_with_generate:
            asked = {k: inputs[k] for k in ("input_ids", "attention_mask")}
            with _unchanged(self.model.generation_config):
                _, answers, _ = super().prediction_step(model, asked, False, **settings)
            measured += (answers,)
        return losses.sum() / counts.sum(), measured, labels

    def _scores(self, prediction: Any) -> dict[str, float]:
        import numpy

        losses, counts, *answers = prediction.predictions
        texts_of = self.targets[self._prefix]
        part = prediction.inputs  # the places of the rows, where it is some of them
        expected = texts_of if part is None else [texts_of[place] for place in part]
        if len(losses) != len(expected):
            raise RuntimeError("the answers are to other rows than those to be scored")
        scores = {"loss": float(losses.sum(dtype=numpy.float64) / counts.sum())}
        if not answers:
            return scores
        tokenizer = self.processing_class
        tokens = numpy.where(answers[0] == IGNORED, tokenizer.pad_token_id, answers[0])
        texts = tokenizer.batch_decode(tokens, skip_special_tokens=True)
        if part is None and self.is_world_process_zero():
            rows = zip(self.sources[self._prefix], texts, expected, strict=True)
            samples = [Sample(*row) for row in rows]
            show_samples(self.folder, self.state.global_step, self._prefix, samples)
        return {**scores, **text_scores(texts, expected)}


@contextmanager
def _unchanged(config: Any) -> Iterator[None]:
    """Seq2SeqTrainer fills in the model's own generation config, which the artefact would keep."""
    kept = dict(vars(config))
    try:
        yield
    finally:
        vars(config).clear()
        vars(config).update(kept)
