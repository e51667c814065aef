"""What vectors are worth, as sentence-transformers' evaluators count it, by cosine.

The names and formulas are those of InformationRetrievalEvaluator and BinaryClassificationEvaluator;
the tests hold them against the library, which the launcher does not need.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_BLOCK = 256
"""Queries that are compared with all documents at a time."""
_DEEPEST = 100
_HITS = 10


def cosine(left: NDArray[np.float64], right: NDArray[np.float64]) -> float:
    """Of two vectors; 0 where one is nothing but zeros."""
    import numpy as np

    length = float(np.linalg.norm(left) * np.linalg.norm(right))
    return float(left @ right) / length if length else 0.0


def retrieval(
    queries: Sequence[str],
    documents: Sequence[str],
    query_vectors: Sequence[NDArray[np.float64]],
    document_vectors: Sequence[NDArray[np.float64]],
) -> dict[str, dict[str, float]]:
    """How well each query finds its documents among all.

    Args:
        queries: a row's query; one that comes again has several documents and counts once.
        documents: the document that answers it.
        query_vectors: of the rows' queries.
        document_vectors: of the rows' documents.

    Returns:
        The measures of each query, by its text.
    """
    import numpy as np

    firsts = {text: row for row, text in reversed(list(enumerate(documents)))}
    names = sorted(firsts, key=lambda text: firsts[text])
    corpus = _unit(np.array([document_vectors[firsts[text]] for text in names]))
    place = {text: at for at, text in enumerate(names)}
    answers: dict[str, set[int]] = {}
    rows: dict[str, int] = {}
    for row, (query, document) in enumerate(zip(queries, documents, strict=True)):
        answers.setdefault(query, set()).add(place[document])
        rows.setdefault(query, row)
    asked = list(rows)
    vectors = _unit(np.array([query_vectors[rows[query]] for query in asked]))
    measures = {}
    for start in range(0, len(asked), _BLOCK):
        scores = vectors[start : start + _BLOCK] @ corpus.T
        for query, line in zip(asked[start : start + _BLOCK], scores, strict=True):
            best = np.argsort(-line, kind="stable")[:_DEEPEST]
            measures[query] = _of_query([int(hit) in answers[query] for hit in best],
                                     len(answers[query]))  # fmt: skip
    return measures


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    import numpy as np

    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: NDArray[np.float64] = vectors / np.where(lengths > 0, lengths, 1)
    return unit


def _of_query(hits: Sequence[bool], relevant: int) -> dict[str, float]:
    """Measures of one query from whether each of its best documents is a right one."""
    top = hits[:_HITS]
    gain = sum(1 / math.log2(rank + 2) for rank, hit in enumerate(top) if hit)
    most = sum(1 / math.log2(rank + 2) for rank in range(min(_HITS, relevant)))
    right, precisions = 0, 0.0
    for rank, hit in enumerate(hits):
        right += hit
        precisions += hit * right / (rank + 1)
    return {
        "cosine_accuracy@1": float(any(hits[:1])),
        "cosine_accuracy@10": float(any(top)),
        "cosine_precision@10": sum(top) / _HITS,
        "cosine_recall@10": sum(top) / relevant,
        "cosine_ndcg@10": gain / most,
        "cosine_mrr@10": next((1 / (rank + 1) for rank, hit in enumerate(top) if hit), 0.0),
        "cosine_map@100": precisions / min(_DEEPEST, relevant),
    }


def labelled_pairs(scores: NDArray[np.float64], same: NDArray[np.bool_]) -> dict[str, float]:
    """How well a threshold on the cosine parts pairs that belong together from others.

    Each measure is at the threshold that is best for it; the average precision needs none.
    """
    import numpy as np
    from sklearn.metrics import average_precision_score, matthews_corrcoef

    order = np.argsort(-scores, kind="stable")
    ranked, right = scores[order], np.cumsum(same[order])
    rows, all_same = len(scores), int(same.sum())
    # A threshold cannot part equal scores.
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    named, hits = ends + 1, right[ends]
    agreed = hits + (rows - all_same) - (named - hits)
    f1 = 2 * hits / (named + all_same)
    best = int(np.argmax(f1))
    metrics = {
        "cosine_accuracy": float(max(agreed.max(), rows - all_same)) / rows,
        "cosine_f1": float(f1[best]),
        "cosine_precision": float(hits[best] / named[best]),
        "cosine_recall": float(hits[best] / all_same) if all_same else 0.0,
    }
    if 0 < all_same < rows:
        metrics["cosine_ap"] = float(average_precision_score(same, scores))
        metrics["cosine_mcc"] = float(matthews_corrcoef(same, scores >= ranked[ends[best]]))
    return metrics
