"""Pairs of texts that are near each other, or how near."""

from __future__ import annotations

from sm_launch.job.tasks.declaration import SENTENCES, Declaration, Shape

TASK = Declaration(
    "pairs",
    (
        Shape({"anchor": "text", "positive": "text"}),
        Shape({"sentence1": "text", "sentence2": "text"}, ("score", "label")),
    ),
    evaluation="embedding",
    base=SENTENCES,
)
