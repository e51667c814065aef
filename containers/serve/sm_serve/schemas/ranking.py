"""Reranking and scoring, as text-embeddings-inference (TEI), Jina, Cohere and vLLM write them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sm_serve.errors import BadRequest
from sm_serve.schemas.client_fields import RERANK, SCORE, TEI_RERANK
from sm_serve.schemas.fields import Values
from sm_serve.schemas.openai import require_object

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Ranking:
    """Texts to be scored against a query. `tei` tells whose form the answer has."""

    query: str
    texts: list[str]
    model: str = ""
    tei: bool = False
    raw: bool = False
    told: bool = False
    most: int | None = None
    truncate: bool = True
    names: Sequence[str] = ()


def parse_rerank(body: Any) -> Ranking:
    """A body with `texts` (TEI) or with `documents` (the others)."""
    body = require_object(body)
    if "texts" in body:
        fields = Values(TEI_RERANK, body)
        return Ranking(
            _text(fields, "query"),
            _texts(fields, "texts"),
            tei=True,
            raw=fields.flag("raw_scores"),
            told=fields.flag("return_text"),
            truncate=fields.flag("truncate"),
            names=_names(fields, "texts"),
        )
    fields = Values(RERANK, body)
    return Ranking(
        _text(fields, "query"),
        _texts(fields, "documents"),
        fields.get("model", ""),
        told=fields.get("return_documents", True),
        most=fields.get("top_n"),
        names=_names(fields, "documents"),
    )


def parse_score(body: Any) -> tuple[list[Pair], list[Pair], str]:
    """Pairs of texts, one against all or each against its own; what the client calls them; and the
    model's name.
    """
    fields = Values(SCORE, require_object(body))
    first, second = _texts(fields, "text_1"), _texts(fields, "text_2")
    names, others = _names(fields, "text_1"), _names(fields, "text_2")
    if len(first) == 1:
        first, names = first * len(second), names * len(second)
    if len(first) != len(second):
        raise BadRequest(
            f"text_1 has {len(first)} texts and text_2 {len(second)}: give one, or as many as there"
        )
    pairs = list(zip(first, second, strict=True))
    return pairs, list(zip(names, others, strict=True)), fields.get("model", "")


def _text(fields: Values, name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not value:
        raise fields.wrong(name, value, "give a text")
    return value


def _texts(fields: Values, name: str) -> list[str]:
    value = fields.get(name)
    values = [value] if isinstance(value, str) else value
    texts: list[Any] = [
        v.get("text") if isinstance(v, dict) and set(v) == {"text"} else v for v in values or ()
    ]
    if not texts or not all(isinstance(text, str) and text for text in texts):
        raise fields.wrong(name, value, 'give texts, or objects {"text": ...}, none empty')
    return texts


def _names(fields: Values, name: str) -> list[str]:
    value = fields[name]
    return [name] if isinstance(value, str) else [f"{name}[{i}]" for i in range(len(value))]


def sigmoid(logit: float) -> float:
    """A score of 0 to 1 out of a cross-encoder's logit."""
    return 1 / (1 + math.exp(-logit)) if logit >= 0 else math.exp(logit) / (1 + math.exp(logit))


def cosine(one: Sequence[float], other: Sequence[float]) -> float:
    """The likeness of two vectors."""
    length = math.hypot(*one) * math.hypot(*other)
    return sum(a * b for a, b in zip(one, other, strict=True)) / (length or 1.0)


def write_rerank(job: Ranking, scores: Sequence[float], request_id: str, model: str) -> Any:
    """The answer, best first."""
    order = sorted(range(len(scores)), key=lambda index: -scores[index])[: job.most]
    if job.tei:
        return [
            {"index": i, "score": scores[i]} | ({"text": job.texts[i]} if job.told else {})
            for i in order
        ]
    results = [
        {"index": i, "relevance_score": scores[i]}
        | ({"document": {"text": job.texts[i]}} if job.told else {})
        for i in order
    ]
    return {"id": f"rerank-{request_id}", "model": model, "results": results}


def write_scores(scores: Sequence[float], request_id: str, model: str) -> Any:
    """The answer to /score."""
    data = [{"index": i, "object": "score", "score": score} for i, score in enumerate(scores)]
    return {"id": f"score-{request_id}", "object": "list", "model": model, "data": data}
