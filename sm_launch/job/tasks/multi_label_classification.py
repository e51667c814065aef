"""Any number of classes of a text."""

from __future__ import annotations

from sm_launch.job.tasks.declaration import ENCODER, Declaration, Shape

TASK = Declaration(
    "labelled",
    (Shape({"text": "text", "label": "labels"}),),
    evaluation="multi-label-classification",
    base=ENCODER,
    trial_parameters={"top_k": None},
    one_text=True,
    problem_type="multi_label_classification",
)
