"""A tag of each word."""

from __future__ import annotations

from sm_launch.job.tasks.declaration import ENCODER, Declaration, Shape

TASK = Declaration(
    "tagged",
    (Shape({"tokens": "list", "tags": "list"}),),
    evaluation="token-classification",
    base=ENCODER,
    trial="Ann Berg flew to Rome.",
    trial_parameters={"aggregation_strategy": "first"},
)
