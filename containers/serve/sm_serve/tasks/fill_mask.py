"""The words that fit into gaps of a text."""

from __future__ import annotations

from sm_serve.protocol import Task
from sm_serve.schemas.encoder_fields import TOKENIZING
from sm_serve.schemas.field_table import ADAPTER_FIELD, MAX_CHOICE_TEXTS, MAX_TOKENS, OBJECT
from sm_serve.schemas.fields import Field, integer, shaped, texts
from sm_serve.tasks.declaration import Declaration

TASK = Declaration(
    task=Task.FILL_MASK,
    model_class="AutoModelForMaskedLM",
    architectures=("ForMaskedLM",),
    engine="sm_serve.engines.encoders.mask_filling:MaskFillingEngine",
    adapted_head=False,
    warm_up=("warm [MASK] <mask>",),
    parameters=(
        ADAPTER_FIELD,
        Field("top_k", integer(1, MAX_TOKENS, 2)),
        Field("targets", texts(MAX_CHOICE_TEXTS, 256)),
        Field("tokenizer_kwargs", shaped(OBJECT, {"truncation": True}, dict, "give an object")),
        *TOKENIZING,
    ),
)
