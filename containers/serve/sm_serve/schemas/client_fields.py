"""Fields of the bodies that other servers' clients send: a part of the table in `field_table.py`.

By their makers' names: text-generation-inference (TGI), text-embeddings-inference (TEI), vLLM,
Jina and Cohere.
"""

from __future__ import annotations

from sm_serve.schemas.field_table import (
    CHAT,
    GENERATION,
    MAX_TOKENS,
    MESSAGE,
    TEXT,
    array,
    labels,
    refused,
)
from sm_serve.schemas.fields import Field, closed, flag, integer, shaped, text

TGI = (
    Field("inputs", shaped({"anyOf": [TEXT, array(MESSAGE, minItems=1)]}, "x", (str, list),
                           "give a text or chat messages"), required=True),
    Field("parameters", shaped(closed(GENERATION), {}, dict, "give an object")),
    Field("stream", flag()),
)  # fmt: skip
"""text-generation-inference's /generate and /generate_stream: one input, one answer."""
QUERY = Field("query", text(example="q"), required=True)
ONE_OR_SEVERAL = shaped(
    {"anyOf": [TEXT, array({"type": ["string", "object"]}, minItems=1)]},
    ["x"],
    (str, list),
    "give a text or a list of texts",
)
MODEL = Field("model", text(example="mood"))
RERANK = (
    QUERY,
    Field("documents", ONE_OR_SEVERAL, required=True),
    MODEL,
    Field("top_n", integer(1, MAX_TOKENS, 1)),
    Field("return_documents", flag(False)),
    *labels("user"),
    *refused("rank_fields", "max_chunks_per_doc", "max_tokens_per_doc", "truncate_prompt_tokens"),
    *refused("priority", off=(0,)),
)
TEI_RERANK = (
    QUERY,
    Field("texts", ONE_OR_SEVERAL, required=True),
    Field("raw_scores", flag()),
    Field("return_text", flag()),
    Field("truncate", flag()),
    *refused("truncation_direction", off=("Right", "right")),
)
SCORE = (
    Field("text_1", ONE_OR_SEVERAL, required=True),
    Field("text_2", ONE_OR_SEVERAL, required=True),
    MODEL,
    *refused("truncate_prompt_tokens"),
    *refused("priority", off=(0,)),
)
TEI_EMBED = (
    Field("inputs", ONE_OR_SEVERAL, required=True),
    Field("normalize", flag(False)),
    Field("truncate", flag()),
    Field("prompt_name", text(example="query")),
    *refused("truncation_direction", off=("Right", "right")),
    *refused("dimensions"),
)
TOKENIZE = (
    MODEL,
    Field("prompt", text(example="x")),
    Field("inputs", text(example="x")),
    *(field for field in CHAT if field.name in ("tools", "continue_final_message")),
    *(field for field in CHAT if field.name in ("chat_template_kwargs",)),
    Field(
        "messages",
        shaped(
            array(MESSAGE, minItems=1),
            [{"role": "user", "content": "x"}],
            list,
            "give a list of messages",
        ),
    ),
    Field("return_token_strs", flag()),
    *refused("add_special_tokens", "add_generation_prompt", off=(True,)),
    *refused("chat_template", "mm_processor_kwargs"),
)
DETOKENIZE = (
    MODEL,
    Field("tokens", shaped(array({"type": "integer", "minimum": 0}), [5], list, "give token ids"),
          required=True),
)  # fmt: skip
