"""OpenAI's wire format of embeddings."""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Sequence
from typing import Any

from sm_serve.errors import BadRequest
from sm_serve.schemas.encoder_fields import EMBEDDINGS
from sm_serve.schemas.fields import Values
from sm_serve.schemas.openai import require_object


def parse_embeddings(body: Any) -> tuple[list[Any], str, str, int | None]:
    """Inputs, encoding (`float` or `base64`), model name and dimensions of a request.

    The inputs are texts, or lists of token ids.
    """
    fields = Values(EMBEDDINGS, require_object(body))
    value = fields.get("input")
    texts = [value] if isinstance(value, str) or is_ids(value) else value
    if not texts:
        raise BadRequest("input: give a text, a list of token ids, or a list of these, none empty")
    ids = is_ids(texts[0])
    for index, text in enumerate(texts):
        if not (is_ids(text) if ids else isinstance(text, str) and text):
            kind = "a list of token ids" if ids else "a text"
            raise BadRequest(f"{name_of(value, index)}: give {kind}, not empty")
    encoding = fields.get("encoding_format", "float")
    model = fields.get("model", "")
    dimensions = fields.get("dimensions")
    return texts, encoding, model, dimensions


def name_of(value: Any, index: int) -> str:
    """Where in a request's `input` one of its inputs stands."""
    return "input" if isinstance(value, str) or is_ids(value) else f"input[{index}]"


def is_ids(value: Any) -> bool:
    """Whether a value is a list of token ids."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(token, int) and not isinstance(token, bool) for token in value)
    )


def shorten(vector: list[float], dimensions: int | None) -> list[float]:
    """The first dimensions of a vector, of length one again."""
    if dimensions is None or dimensions == len(vector):
        return vector
    if dimensions > len(vector):
        raise BadRequest(f"dimensions={dimensions}: the model's vectors have {len(vector)}")
    cut = vector[:dimensions]
    length = math.hypot(*cut) or 1.0
    return [value / length for value in cut]


def write_embeddings(
    vectors: Sequence[Sequence[float]], tokens: int, encoding: str, model: str
) -> dict[str, Any]:
    """The answer to an embeddings request."""
    data = []
    for index, vector in enumerate(vectors):
        value: Any = list(vector)
        if encoding == "base64":
            value = base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
        data.append({"object": "embedding", "index": index, "embedding": value})
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": model, "usage": usage}
