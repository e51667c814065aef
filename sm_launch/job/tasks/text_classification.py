"""One class of a text."""

from __future__ import annotations

from sm_launch.job.tasks.declaration import ENCODER, Declaration, Shape

TASK = Declaration(
    "labelled",
    (Shape({"text": "text", "label": "label"}),),
    evaluation="text-classification",
    base=ENCODER,
    one_text=True,
)
