"""The part of a text that answers a question."""

from __future__ import annotations

from sm_launch.job.tasks.declaration import ENCODER, Declaration, Shape

TASK = Declaration(
    "questions",
    (Shape({"question": "text", "context": "value"}, ("answers", "is_impossible", "id")),),
    evaluation="question-answering",
    base=ENCODER,
    trial={"question": "Who wrote it?", "context": "Ann wrote it in Rome."},
    group="context",
)
