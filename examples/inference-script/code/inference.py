"""A ticket is urgent from a low score on: a miss costs more than a false alarm.

`input_fn` and `output_fn` are left to the server: JSON in, JSON out.
"""

from __future__ import annotations

from typing import Any

URGENT_FROM = 0.2


def model_fn(model_dir: str) -> Any:
    """The classifier, with the scores of both classes."""
    from transformers import pipeline

    return pipeline("text-classification", model=model_dir, top_k=None)


def predict_fn(data: dict[str, Any], model: Any) -> list[dict[str, Any]]:
    """One label and its score for each ticket."""
    tickets = data["inputs"] if isinstance(data["inputs"], list) else [data["inputs"]]
    answers = []
    for scored in model(tickets, truncation=True):
        scores = {entry["label"]: float(entry["score"]) for entry in scored}
        label = "urgent" if scores["urgent"] >= URGENT_FROM else "normal"
        answers.append({"label": label, "score": scores[label]})
    return answers
