"""Embeddings: what is trained is what sentence-transformers loads and what the endpoint answers."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

Rows = list[dict[str, Any]]
FAST = {"method": "embedding", "max_steps": 2, "report_to": "none", "logging_steps": 1}


def pairs(count: int) -> Rows:
    """The same words in another order belong together."""
    chance = random.Random(1)
    made = []
    for _ in range(count):
        tokens = [f"w{i}" for i in chance.sample(range(40), 4)]
        made.append({"anchor": " ".join(tokens), "positive": " ".join(reversed(tokens))})
    return made


def triplets(count: int) -> Rows:
    return [{**row, "negative": "w1 good"} for row in pairs(count)]


def scored(count: int) -> Rows:
    return [
        {"sentence1": r["anchor"], "sentence2": "w1", "score": i / 10}
        for i, r in enumerate(pairs(count))
    ]


def labelled(count: int) -> Rows:
    return [
        {"sentence1": r["anchor"], "sentence2": r["positive"], "label": str(bool(i % 2))}
        for i, r in enumerate(pairs(count))
    ]


@pytest.mark.parametrize(
    ("rows", "settings", "score"),
    [
        (triplets, {"loss": "TripletLoss"}, "test_cosine_accuracy"),
        (scored, {"loss": "CosineSimilarityLoss", "max_length": 3}, "test_spearman_cosine"),
        (labelled, {"pooling": "lasttoken", "matryoshka_dims": [32, 8]}, "test_cosine_ap"),
    ],
)
def test_every_format_is_trained_and_scored(
    rows: Callable[[int], Rows],
    settings: dict[str, Any],
    score: str,
    new_job: Callable[..., Any],
    encoders: dict[str, Path],
) -> None:
    data = {"train": rows(40), "validation": rows(12), "test": rows(12)}
    job = new_job({**FAST, **settings}, **data, model=encoders["roberta"])
    job.train_here()
    assert max(job.losses) == 2
    assert score in job.results
    assert json.loads((job.model / "modules.json").read_text())[1]["path"] == "1_Pooling"
    summary = json.loads((job.path / "output" / "data" / "training_summary.json").read_text())
    cut = 40 if "max_length" in settings else 0
    assert summary["learnt"]["train"] == {"rows": 40, "cut": cut}


@pytest.mark.parametrize(("pooling", "least"), [("mean", 0.9), ("cls", 0)])
def test_the_endpoint_answers_with_the_vectors_that_were_trained(
    pooling: str,
    least: float,
    new_job: Callable[..., Any],
    encoders: dict[str, Path],
    free_tcp_port: int,
) -> None:
    import httpx
    from sentence_transformers import SentenceTransformer

    settings = {**FAST, "max_steps": 30, "learning_rate": 0.003, "pooling": pooling}
    data = {"train": pairs(160), "validation": pairs(160)[:20], "test": pairs(200)[160:]}
    job = new_job(settings, **data, model=encoders["bert"])
    job.train_here()
    assert job.results["test_cosine_accuracy@1"] >= least
    texts = [row["anchor"] for row in pairs(5)]
    expected = SentenceTransformer(str(job.model), device="cpu").encode(texts)
    environment = {
        "SAGEMAKER_BASE_DIR": str(job.path),
        "SAGEMAKER_BIND_TO_PORT": str(free_tcp_port),
    }
    server = subprocess.Popen(
        [sys.executable, "-m", "sm_serve"], env={**os.environ, **environment}, cwd=job.path
    )
    try:
        answer = wait_for_answer(f"http://127.0.0.1:{free_tcp_port}", texts, httpx)
    finally:
        server.kill()
        server.wait()
    for vector, wanted in zip(answer, expected, strict=True):
        assert vector == pytest.approx(wanted.tolist(), abs=1e-5)


def wait_for_answer(url: str, texts: list[str], httpx: Any) -> list[list[float]]:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"{url}/ping").status_code == 200:
                break
        except httpx.TransportError:
            time.sleep(0.2)
    answer = httpx.post(f"{url}/invocations", json={"inputs": texts}, timeout=60)
    assert answer.status_code == 200, answer.text
    vectors: list[list[float]] = answer.json()
    return vectors
