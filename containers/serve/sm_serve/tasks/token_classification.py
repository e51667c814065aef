"""A label for each word: entities, parts of speech."""

from __future__ import annotations

from sm_serve.protocol import Task
from sm_serve.schemas.field_table import ADAPTER_FIELD, MAX_TOKENS, TEXT, array, refused
from sm_serve.schemas.fields import Field, integer, shaped, text
from sm_serve.tasks.declaration import Declaration

TASK = Declaration(
    task=Task.TOKEN_CLASSIFICATION,
    model_class="AutoModelForTokenClassification",
    architectures=("ForTokenClassification",),
    engine="sm_serve.engines.encoders.token_classification:TokenClassificationEngine",
    aliases=("ner",),
    adapter_types=("TOKEN_CLS",),
    labelled=True,
    parameters=(
        ADAPTER_FIELD,
        Field("aggregation_strategy", text(example="simple")),
        Field("ignore_labels", shaped(array(TEXT), ["O", "x"], list, "give a list of labels")),
        Field("stride", integer(0, MAX_TOKENS, 2)),
        Field("max_length", integer(1, MAX_TOKENS, 6)),
        *refused("grouped_entities", "ignore_subwords", "is_split_into_words", off=(False,)),
        *refused("offset_mapping", "delimiter"),
    ),
)
