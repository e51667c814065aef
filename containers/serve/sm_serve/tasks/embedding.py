"""A vector for each text."""

from __future__ import annotations

from sm_serve.protocol import Task
from sm_serve.schemas.encoder_fields import TOKENIZING
from sm_serve.schemas.field_table import ADAPTER_FIELD, refused
from sm_serve.schemas.fields import Field, flag, text
from sm_serve.tasks.declaration import Declaration

TASK = Declaration(
    task=Task.EMBEDDING,
    model_class="AutoModel",
    architectures=("Model",),
    engine="sm_serve.engines.encoders.embedding:EmbeddingEngine",
    aliases=("sentence-similarity", "sentence-embeddings"),
    adapter_types=("FEATURE_EXTRACTION",),
    headed=False,
    parameters=(
        ADAPTER_FIELD,
        Field("normalize", flag(False)),
        Field("prompt_name", text(example="query")),
        Field("truncate", flag()),  # TEI's word for truncation
        *refused("truncation_direction", off=("Right", "right")),
        *TOKENIZING,
        *refused("return_tensors", off=(False,)),
        *refused("tokenize_kwargs"),
    ),
)
