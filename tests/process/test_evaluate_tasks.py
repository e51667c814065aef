"""Evaluation of artefacts of other tasks, each behind a real server for as long as it takes.

The models are tiny and random: what counts is that rows, requests and answers fit together.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sm_launch import cli
from sm_launch.aws.clients import make_client

sys.path.insert(0, str(Path(__file__).parent / "serving"))

pytestmark = pytest.mark.slow

ROWS: dict[str, dict[str, object]] = {
    "text-generation": {"prompt": "the film", "completion": " was good"},
    "question-answering": {
        "question": "what was good?",
        "context": "the film was good and slow",
        "answers": {"text": ["the film"], "answer_start": [0]},
    },
    "token-classification": {"tokens": ["Ada", "saw", "Bob"], "tags": ["B-PER", "O", "B-PER"]},
}
METRICS = {
    "text-generation": {"exact_match", "rouge1", "rouge2", "rougeL", "bleu", "chrf"},
    "question-answering": {"exact_match", "f1"},
    "token-classification": {"precision", "recall", "f1", "exact_match"},
}


def make_model(task: str, path: Path) -> None:
    import serving_models

    if task == "text-generation":
        serving_models.language_model(path)
    elif task == "question-answering":
        serving_models.encoder(path, "BertForQuestionAnswering", ["a", "b"])
    else:
        serving_models.encoder(path, "BertForTokenClassification", ["O", "B-PER", "I-PER"])


def own_loss(path: Path) -> float:
    """The model's mean loss of the completion's tokens, by a plain forward pass."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(path)
    prompt, completion = (str(ROWS["text-generation"][name]) for name in ("prompt", "completion"))
    start = len(tokenizer(prompt)["input_ids"])
    ids = torch.tensor([tokenizer(prompt + completion)["input_ids"]])
    assert ids.shape[1] > start + 1
    labels = ids.clone()
    labels[:, :start] = -100
    with torch.inference_mode():
        return float(AutoModelForCausalLM.from_pretrained(path).float()(ids, labels=labels).loss)


@pytest.fixture
def other_store(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """URL of a store with S3's protocol that has a bucket `models`."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    url = "http://{}:{}".format(*server.get_host_and_port())
    make_client("s3", s3_endpoint_url=url).create_bucket(Bucket="models")
    yield url
    server.stop()


def test_an_artefact_in_another_store_is_measured_here(
    other_store: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SM_LAUNCH_HOME", str(tmp_path / "state"))
    make_model("question-answering", tmp_path / "made")
    store = make_client("s3", s3_endpoint_url=other_store)
    for file in (tmp_path / "made").iterdir():
        store.upload_file(str(file), "models", f"job-1/output/model/{file.name}")
    store.put_object(Bucket="models", Key="rows.jsonl", Body=json.dumps(ROWS["question-answering"]))
    Path("job.yaml").write_text(
        "name: mine\ntarget: process\nevaluation: {task: question-answering}\n"
        f"aws: {{s3_endpoint_url: '{other_store}'}}\n"
    )
    uri, rows = "s3://models/job-1/output/model", "s3://models/rows.jsonl"
    assert cli.run(["evaluate", "--model-data", uri, "--data", rows, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["rows"]["evaluated"] == 1
    assert METRICS["question-answering"] <= set(document["metrics"])
    assert document["run"]["artefact"] == document["run"]["endpoint"] == uri
    assert document["run"]["training_job"] == "job-1"
    (kept,) = [each for each in (tmp_path / "state" / "s3").iterdir() if each.name != "objects"]
    assert (kept / "config.json").is_file()


@pytest.mark.parametrize("task", ["text-generation", "token-classification"])
def test_a_local_artefact_is_served_measured_and_stopped(
    task: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SM_LAUNCH_HOME", str(tmp_path / "state"))
    make_model(task, tmp_path / "model")
    Path("job.yaml").write_text(f"name: mine\nevaluation: {{task: {task}, perplexity: true}}\n")
    Path("rows.jsonl").write_text(f"{json.dumps(ROWS[task])}\n" * 6)
    capsys.readouterr()
    assert cli.run(["evaluate", "--model-data", "model", "--data", "rows.jsonl", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["task"] == task
    assert document["rows"]["evaluated"] == 6
    assert METRICS[task] <= set(document["metrics"])
    assert document["latency_ms"]["count"] == 6
    if task == "text-generation":
        assert document["metrics"]["loss"] == pytest.approx(own_loss(tmp_path / "model"), abs=1e-4)
        perplexity = math.exp(document["metrics"]["loss"])
        assert document["metrics"]["perplexity"] == pytest.approx(perplexity)
    predictions = Path("build/mine/report/predictions.jsonl").read_text().splitlines()
    assert len({json.loads(line)["predicted"] for line in predictions}) == 1  # greedy
    assert cli.run(["list", "--target", "process", "--json"]) == 0
    left = json.loads(capsys.readouterr().out)["Endpoints"]
    assert all(endpoint["EndpointStatus"] == "Deleting" for endpoint in left)
