"""A job on two hosts, each with its own disk: two `train` processes of this machine over Gloo."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sm_train.loop.checkpoints import is_complete, last_complete

pytestmark = pytest.mark.slow

Rows = list[dict[str, Any]]
Sentiment = Callable[[int, int], Rows]
NewJob = Callable[..., Any]
HOSTS = ["127.0.0.1", "localhost"]
SETTINGS = {
    "method": "text-classification",
    "learning_rate": 0.01,
    "max_steps": 24,
    "logging_steps": 1,
    "eval_strategy": "steps",
    "eval_steps": 8,
    "save_total_limit": 3,
    # The best checkpoint is then the first one, far from the last weights.
    "metric_for_best_model": "loss",
    "greater_is_better": True,
    "bf16": False,
    "report_to": "none",
}


def two_hosts(session_job: NewJob, settings: dict[str, Any], **channels: Any) -> list[Any]:
    jobs = []
    for host in HOSTS:
        job = session_job(settings, **channels)
        cluster = {"current_host": host, "hosts": HOSTS, "network_interface_name": "lo"}
        (job.path / "input" / "config" / "resourceconfig.json").write_text(json.dumps(cluster))
        jobs.append(job)
    return jobs


def train(jobs: list[Any]) -> list[str]:
    processes = [job.start(SM_STUDIO_LOCAL_MODE="true") for job in jobs]
    outputs = [process.communicate(timeout=180)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    return outputs


def shared_files(checkpoint: Path) -> dict[str, bytes]:
    """What is not a process's own: its random state and its host's seal."""
    return {
        path.name: path.read_bytes()
        for path in checkpoint.iterdir()
        if not path.name.startswith(("rng_state_", "complete-"))
    }


def loss_of(model: Path, rows: Rows) -> float:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    net = AutoModelForSequenceClassification.from_pretrained(model).eval()
    tokenizer = AutoTokenizer.from_pretrained(model)
    texts = tokenizer([row["text"] for row in rows], padding=True, return_tensors="pt")
    labels = torch.tensor([net.config.label2id[row["label"]] for row in rows])
    with torch.no_grad():
        return float(net(**texts, labels=labels).loss)


@pytest.fixture(scope="module")
def trained(session_job: NewJob, encoders: dict[str, Path], sentiment: Sentiment) -> list[Any]:
    channels = {"train": sentiment(160, 1), "validation": sentiment(32, 2)}
    channels["test"] = sentiment(32, 3)
    jobs = two_hosts(session_job, SETTINGS, **channels, model=encoders["bert"])
    train(jobs)
    return jobs


def test_each_host_has_whole_checkpoints_and_ends_with_the_best_weights(
    trained: list[Any], sentiment: Sentiment
) -> None:
    first = trained[0]
    for step in (8, 16, 24):
        ours, others = (shared_files(job.checkpoints / f"checkpoint-{step}") for job in trained)
        assert ours.keys() == others.keys()
        for name in ("model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"):
            assert ours[name] == others[name], name
    best = (first.checkpoints / "checkpoint-8" / "model.safetensors").read_bytes()
    assert (first.model / "model.safetensors").read_bytes() == best
    # Each host has scored half of the rows: with other weights the mean would be another.
    loss = loss_of(first.model, sentiment(32, 3))
    assert first.results["test_loss"] == pytest.approx(loss, rel=1e-4)
    last = loss_of(first.checkpoints / "checkpoint-24", sentiment(32, 3))
    assert abs(loss - last) > 0.01


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_checkpoints_that_hosts_copy_to_one_prefix_are_whole(
    trained: list[Any], tmp_path: Path, order: tuple[int, int]
) -> None:
    """Whichever host wrote a file last, and not before both have written all."""
    before, after = (trained[i].checkpoints for i in order)
    shutil.copytree(before, tmp_path / "prefix")
    shutil.copytree(after, tmp_path / "prefix", dirs_exist_ok=True)
    newest = tmp_path / "prefix" / "checkpoint-24"
    assert len(list(newest.glob("complete-*.json"))) == 2
    assert last_complete(tmp_path / "prefix") == newest
    (newest / "rng_state_1.pth").unlink()
    assert not is_complete(newest)


def test_both_resume_from_the_newest_checkpoint_that_both_have(trained: list[Any]) -> None:
    first, second = trained
    whole, results = first.losses, first.results
    assert whole.keys() == set(range(1, 25))
    shutil.rmtree(second.checkpoints / "checkpoint-24")  # killed before it had written it
    outputs = train(trained)
    assert "resuming from checkpoint-16" in outputs[0]
    assert first.losses == pytest.approx(whole, rel=1e-3)
    assert first.results["test_loss"] == pytest.approx(results["test_loss"], rel=1e-4)
    assert is_complete(second.checkpoints / "checkpoint-24")
