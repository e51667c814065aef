"""A text out of a text: summaries, translations."""

from __future__ import annotations

from sm_launch.job.tasks.declaration import ENCODER_DECODER, Declaration, Shape

TASK = Declaration(
    "texts to texts",
    (Shape({"source": "text", "target": "text"}),),
    evaluation="text2text-generation",
    base=ENCODER_DECODER,
)
