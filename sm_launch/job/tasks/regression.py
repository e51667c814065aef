"""A number of a text."""

from __future__ import annotations

from sm_launch.job.tasks.declaration import ENCODER, Declaration, Shape

TASK = Declaration(
    "labelled",
    (Shape({"text": "text", "label": "number"}),),
    evaluation="text-regression",
    base=ENCODER,
    one_text=True,
    problem_type="regression",
)
