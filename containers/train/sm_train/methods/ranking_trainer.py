"""The trainer of reranking: a query's documents lie in one batch, the loss is of their order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sm_train.loop.sampling import LengthGroupedTrainer
from sm_train.results.ranking import ranking_scores

NONE = -100
"""Stands where a query has fewer documents than another one of its batch."""
_TOGETHER = 64  # queries whose loss is computed at a time, whatever the batch


class GroupCollator:
    """Queries with their documents as one batch of pairs; the labels are one line a query."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def __call__(self, groups: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Pairs padded to the longest, labels to the most documents."""
        import torch
        from torch.nn.utils.rnn import pad_sequence

        names = [name for name in groups[0] if name != "labels"]
        pairs = [
            dict(zip(names, cells, strict=True))
            for group in groups
            for cells in zip(*(group[name] for name in names), strict=True)
        ]
        batch = dict(self._tokenizer.pad(pairs, return_tensors="pt"))
        lines = [torch.tensor(group["labels"], dtype=torch.float32) for group in groups]
        return {**batch, "labels": pad_sequence(lines, batch_first=True, padding_value=NONE)}


class RankingTrainer(LengthGroupedTrainer):
    """A Trainer whose loss is one of sentence-transformers' for ordered lists."""

    def __init__(self, *arguments: Any, loss: str, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._loss_name = loss
        self.compute_metrics = self._scores

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The library's mean over the pairs of documents, or the queries, of this batch."""
        labels = inputs["labels"]
        outputs = model(**{name: value for name, value in inputs.items() if name != "labels"})
        scores = outputs.logits.view(-1)
        loss = list_loss(self._loss_name, scores, labels)
        return (loss, {"logits": in_lines(scores, labels)}) if return_outputs else loss

    def prediction_step(
        self, model: Any, inputs: Any, prediction_loss_only: bool, ignore_keys: Any = None
    ) -> tuple[Any, Any, Any]:
        """Scores and labels as lines, one a query."""
        import torch

        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            loss, outputs = self.compute_loss(model, inputs, return_outputs=True)
        return loss.detach(), outputs["logits"].float(), inputs["labels"]

    def _scores(self, prediction: Any) -> dict[str, float]:
        import torch

        lines, labels = prediction.predictions, prediction.label_ids
        there = labels != NONE
        total = 0.0
        for start in range(0, len(labels), _TOGETHER):
            part = slice(start, start + _TOGETHER)
            flat = torch.tensor(lines[part][there[part]])
            loss = list_loss(self._loss_name, flat, torch.tensor(labels[part]))
            total += float(loss) * len(labels[part])
        groups = [
            (line[kept].tolist(), scores[kept].tolist())
            for line, scores, kept in zip(labels, lines, there, strict=True)
        ]
        return {"loss": total / len(labels), **ranking_scores(groups)}


def in_lines(scores: Any, labels: Any) -> Any:
    """Scores of all pairs as lines like their labels'."""
    import torch

    lines = torch.full(labels.shape, float(NONE), dtype=scores.dtype, device=scores.device)
    lines[labels != NONE] = scores
    return lines


def list_loss(name: str, scores: Any, labels: Any) -> Any:
    """A loss of sentence-transformers, of scores that are there already."""
    from sentence_transformers.cross_encoder import losses
    from torch import nn

    kept = [line[line != NONE] for line in labels]

    class Scored(nn.Module):  # type: ignore[misc]
        """Takes the place of the cross-encoder: pairs go in, and their scores come out."""

        num_labels, device = 1, scores.device

        def preprocess(self, _pairs: Any, **_settings: Any) -> dict[str, Any]:
            return {}

        def forward(self, _tokens: Any) -> dict[str, Any]:
            return {"scores": scores}

    loss = getattr(losses, name)(Scored(), mini_batch_size=-1)
    documents = [[""] * len(line) for line in kept]
    return loss([[""] * len(kept), documents], kept)
