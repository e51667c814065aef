"""Documents in the order of their relevance to a query: a row is a query with one of them."""

from __future__ import annotations

from sm_launch.job.tasks.declaration import ENCODER, Declaration, Shape

TASK = Declaration(
    "ranked",
    (Shape({"query": "text", "document": "text", "label": "number"}),),
    evaluation="reranking",
    base=ENCODER,
    trial={"text": "who wrote it?", "text_pair": "Ann wrote it in Rome."},
    group="query",
)
