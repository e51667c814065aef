"""sentence-transformers' losses, by what the rows hold, and the method's hyperparameters."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

# sentence-transformers' losses by what the rows hold; the first one is the default.
LOSSES = {
    "pairs": (
        "MultipleNegativesRankingLoss",
        "CachedMultipleNegativesRankingLoss",
        "MultipleNegativesSymmetricRankingLoss",
    ),
    "triplets": (
        "MultipleNegativesRankingLoss",
        "CachedMultipleNegativesRankingLoss",
        "TripletLoss",
    ),
    "scored pairs": ("CoSENTLoss", "CosineSimilarityLoss", "AnglELoss"),
    "labelled pairs": ("ContrastiveLoss", "OnlineContrastiveLoss"),
}
_ALL_LOSSES = tuple(dict.fromkeys(loss for losses in LOSSES.values() for loss in losses))


@dataclass(frozen=True)
class EmbeddingArguments:
    """The method's own hyperparameters."""

    loss: str | None = field(
        default=None,
        metadata={
            "help": "Loss of sentence-transformers by its name. Default: "
            "MultipleNegativesRankingLoss, CoSENTLoss for scores, ContrastiveLoss for labels.",
            "choices": _ALL_LOSSES,
        },
    )
    pooling: Literal["mean", "cls", "lasttoken"] | None = field(
        default=None,
        metadata={
            "help": "How tokens become one vector. Default: as the base model does, or mean."
        },
    )
    max_length: int | None = field(
        default=None, metadata={"help": "Tokens of a text. Default: what the base model takes."}
    )
    matryoshka_dims: list[int] | None = field(
        default=None,
        metadata={"help": "Train vectors that may be cut to these lengths (MatryoshkaLoss)."},
    )


def kind(row: dict[str, Any]) -> str:
    """What a cleaned row holds, by the names of `LOSSES`."""
    if "anchor" in row:
        return "triplets" if len(row) > 2 else "pairs"
    return "scored pairs" if "score" in row else "labelled pairs"
