"""Answers that are good or bad."""

from __future__ import annotations

from sm_launch.job.tasks.declaration import COMPANIONS, PREFERENCE, Declaration, Shape

TASK = Declaration(
    "preferences",
    (
        Shape({"prompt": "turn", "completion": "turn", "label": "value"}, COMPANIONS),
        PREFERENCE,
    ),
)
