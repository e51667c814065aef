"""Fields of what encoders are asked: a part of the table in `field_table.py`."""

from __future__ import annotations

from sm_serve.schemas.field_table import (
    ADAPTER_FIELD,
    MAX_TOKENS,
    TEXT,
    TOKEN_IDS,
    TRUNCATION,
    array,
    labels,
    refused,
)
from sm_serve.schemas.fields import Field, Schema, flag, integer, shaped, text

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
    Field("apply_threshold", flag()),
)
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
