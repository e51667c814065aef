"""A classifier behind LitServe: `benchmarks/serving.py --against litserve`.

    python benchmarks/serving_litserve.py MODEL PORT

A worker for each CPU with one thread, and batches of what waits, sorted by no length, as its guide
shows them.
"""

# No `from __future__ import annotations`: LitServe reads the types of decode_request.
import os
import sys
from typing import Any

import litserve
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

BATCH, WAIT_SECONDS = 8, 0.002
"""The most texts of a batch, and what a text waits for others."""


class Classifier(litserve.LitAPI):  # type: ignore[misc]
    """A label and its score for each text."""

    def setup(self, device: str) -> None:
        """Load the model."""
        torch.set_num_threads(1)
        model = os.environ["BENCH_MODEL"]
        self.tokenizer = AutoTokenizer.from_pretrained(model)
        self.model = AutoModelForSequenceClassification.from_pretrained(model).eval()

    def decode_request(self, request: dict[str, Any]) -> str:
        """Its text."""
        return str(request["inputs"])

    def predict(self, texts: list[str]) -> list[Any]:
        """All texts of a batch, padded to the longest."""
        with torch.inference_mode():
            batch = self.tokenizer(texts, return_tensors="pt", truncation=True, padding=True)
            return list(self.model(**batch).logits.softmax(-1))

    def encode_response(self, scores: Any) -> list[dict[str, Any]]:
        """The best label, as our server says it."""
        best = int(scores.argmax())
        return [{"label": self.model.config.id2label[best], "score": float(scores[best])}]


if __name__ == "__main__":
    os.environ["BENCH_MODEL"] = sys.argv[1]
    litserve.LitServer(
        Classifier(max_batch_size=BATCH, batch_timeout=WAIT_SECONDS),
        accelerator="cpu",
        workers_per_device=os.cpu_count() or 1,
    ).run(port=int(sys.argv[2]), host="127.0.0.1", generate_client_file=False)
