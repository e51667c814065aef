"""Fields of what encoders are asked: a part of the table in `field_table.py`."""

from __future__ import annotations

from sm_serve.protocol import Task
from sm_serve.schemas.field_table import (
    ADAPTER_FIELD,
    GENERATION,
    MAX_CHOICE_TEXTS,
    MAX_TOKENS,
    OBJECT,
    TEXT,
    TOKEN_IDS,
    TRUNCATION,
    array,
    labels,
    refused,
)
from sm_serve.schemas.fields import Field, Schema, flag, integer, shaped, text, texts

SOME_TEXT: Schema = {"type": "string", "minLength": 1}
EMBEDDINGS = (
    Field("input", shaped({"anyOf": [SOME_TEXT, array(SOME_TEXT, minItems=1), TOKEN_IDS,
                                     array(TOKEN_IDS, minItems=1)]}, "x", (str, list),
                          "give a text, a list of token ids, or a list of these, none empty"),
          required=True),
    Field("model", text(example="mood")),
    Field("encoding_format", text("float", "base64")),
    Field("dimensions", integer(1, 100_000, 8)),
    *labels("user", "request_id", "metadata"),
    *refused("priority", off=(0,)),
    *refused("add_special_tokens", off=(True,)),
    *refused("input_type", "truncate_prompt_tokens", "cache_salt", "mm_processor_kwargs"),
)  # fmt: skip

TOKENIZING = (
    Field("truncation", TRUNCATION),
    Field("max_length", integer(1, MAX_TOKENS, 7)),
    *labels("padding"),  # the batch's own business: no answer changes
)
CLASSIFYING = (
    # null means all labels: the one field whose null is not as absent.
    Field("top_k", shaped({"type": "integer", "minimum": 1}, 2)),
    Field("function_to_apply", text(example="sigmoid")),
    Field("return_all_scores", flag()),
)
PARAMETERS: dict[Task, tuple[Field, ...]] = {
    Task.TEXT_GENERATION: GENERATION,
    Task.TEXT_CLASSIFICATION: (ADAPTER_FIELD, *CLASSIFYING, *TOKENIZING),
    Task.TOKEN_CLASSIFICATION: (
        ADAPTER_FIELD,
        Field("aggregation_strategy", text(example="simple")),
        Field("ignore_labels", shaped(array(TEXT), ["O", "x"], list, "give a list of labels")),
        Field("stride", integer(0, MAX_TOKENS, 2)),
        Field("max_length", integer(1, MAX_TOKENS, 6)),
        *refused("grouped_entities", "ignore_subwords", "is_split_into_words", off=(False,)),
        *refused("offset_mapping", "delimiter"),
    ),
    Task.QUESTION_ANSWERING: (
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
    Task.FILL_MASK: (
        ADAPTER_FIELD,
        Field("top_k", integer(1, MAX_TOKENS, 2)),
        Field("targets", texts(MAX_CHOICE_TEXTS, 256)),
        Field("tokenizer_kwargs", shaped(OBJECT, {"truncation": True}, dict, "give an object")),
        *TOKENIZING,
    ),
    Task.EMBEDDING: (
        ADAPTER_FIELD,
        Field("normalize", flag(False)),
        Field("prompt_name", text(example="query")),
        Field("truncate", flag()),  # TEI's word for truncation
        *refused("truncation_direction", off=("Right", "right")),
        *TOKENIZING,
        *refused("return_tensors", off=(False,)),
        *refused("tokenize_kwargs"),
    ),
}  # fmt: skip
"""By task, what `parameters` of our own format may hold."""
ZERO_SHOT = (
    ADAPTER_FIELD,
    Field("candidate_labels", shaped({"anyOf": [TEXT, array(TEXT, minItems=1)]}, ["a", "b"],
                                     (str, list), "give labels as a list of texts"), required=True),
    Field("hypothesis_template", text(example="It is {}.")),
    Field("multi_label", flag()),
    *refused("truncation", off=(True, "only_first")),
)  # fmt: skip
SIMILARITY = (
    Field("source_sentence", text(example="x"), required=True),
    Field("sentences", shaped(array(TEXT, minItems=1), ["x"], list, "give texts"), required=True),
)
"""An input of sentence similarity."""
