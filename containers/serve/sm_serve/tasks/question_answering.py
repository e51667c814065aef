"""The part of a context that answers a question."""

from __future__ import annotations

from sm_serve.protocol import Task
from sm_serve.schemas.field_table import ADAPTER_FIELD, MAX_TOKENS, labels, refused
from sm_serve.schemas.fields import Field, flag, integer, text
from sm_serve.tasks.declaration import Declaration

TASK = Declaration(
    task=Task.QUESTION_ANSWERING,
    model_class="AutoModelForQuestionAnswering",
    architectures=("ForQuestionAnswering",),
    engine="sm_serve.engines.encoders.question_answering:QuestionAnsweringEngine",
    adapter_types=("QUESTION_ANS",),
    warm_up=({"question": "warm?", "context": "warm up"},),
    parameters=(
        ADAPTER_FIELD,
        Field("top_k", integer(1, 100, 2)),
        Field("topk", integer(1, 100, 2)),  # the older word
        Field("max_answer_len", integer(1, MAX_TOKENS, 2)),
        Field("handle_impossible_answer", flag()),
        Field("align_to_words", flag(False)),
        Field("max_seq_len", integer(1, MAX_TOKENS, 20)),
        Field("doc_stride", integer(1, 10_000, 3)),
        Field("rank_by", text(example="logit")),
        *refused("max_question_len", off=(64,)),
        *labels("padding"),
    ),
)
