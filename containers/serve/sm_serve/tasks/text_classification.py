"""One label of a text, or of two, or the probability of each."""

from __future__ import annotations

from sm_serve.protocol import Task
from sm_serve.schemas.encoder_fields import CLASSIFYING, TOKENIZING
from sm_serve.schemas.field_table import ADAPTER_FIELD
from sm_serve.tasks.declaration import Declaration

TASK = Declaration(
    task=Task.TEXT_CLASSIFICATION,
    model_class="AutoModelForSequenceClassification",
    architectures=("ForSequenceClassification",),
    engine="sm_serve.engines.encoders.classification:ClassificationEngine",
    aliases=("sentiment-analysis", "zero-shot-classification", "text-ranking"),
    adapter_types=("SEQ_CLS",),
    labelled=True,
    parameters=(ADAPTER_FIELD, *CLASSIFYING, *TOKENIZING),
)
