"""How well documents are ordered for a query: MRR, NDCG and MAP.

Names and arithmetic are those of sentence-transformers' CrossEncoderRerankingEvaluator, which is
scikit-learn's; NDCG takes grades as they are, for the others a label above 0 is relevant.
"""

from __future__ import annotations

from collections.abc import Sequence

TOP = 10


def query_scores(labels: Sequence[float], scores: Sequence[float]) -> dict[str, float]:
    """The measures of one query."""
    import numpy
    from sklearn.metrics import average_precision_score, ndcg_score

    relevant = [label > 0 for label in labels]
    if not any(relevant):
        return {"map": 0.0, f"mrr@{TOP}": 0.0, f"ndcg@{TOP}": 0.0}
    order = numpy.argsort(scores)[::-1][:TOP].tolist()
    first = next((place for place, at in enumerate(order, 1) if relevant[at]), None)
    alone = len(relevant) == 1  # for which scikit-learn has no NDCG
    return {
        "map": float(average_precision_score(relevant, scores)),
        f"mrr@{TOP}": 1 / first if first else 0.0,
        f"ndcg@{TOP}": 1.0 if alone else float(ndcg_score([labels], [scores], k=TOP)),
    }
