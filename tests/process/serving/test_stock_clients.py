"""Bodies, headers and paths of real clients of other servers, as they send them."""

import gzip
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from endpoint_runtime import runtime_of
from serving_models import embedding_model, encoder

pytestmark = pytest.mark.slow

PARAMETERS = {"max_new_tokens": 4}


@pytest.fixture(scope="module")
def embedder(pool):
    return pool.server(pool.model("embedder", embedding_model))


def make_cross_encoder(path):
    return encoder(path, "BertForSequenceClassification", ["a"])


@pytest.fixture(scope="module")
def cross_encoder(pool):
    return pool.server(pool.model("cross-encoder", make_cross_encoder))


def post(server, path, body, status=200, **headers):
    answer = server.client.post(path, json=body, headers=headers)
    assert answer.status_code == status, answer.text
    return answer


def test_hugging_faces_and_tgis_clients(language_model):
    body = {"inputs": "the movie", "parameters": PARAMETERS}
    listed = post(language_model, "/invocations", body).json()
    assert post(language_model, "/", body).json() == listed
    # What text_generation.Client sends, with its nulls and defaults.
    defaults = {
        "adapter_id": None, "best_of": None, "decoder_input_details": False, "details": False,
        "do_sample": False, "frequency_penalty": None, "grammar": None, "repetition_penalty": None,
        "return_full_text": False, "seed": None, "stop": [], "temperature": None, "top_k": None,
        "top_n_tokens": None, "top_p": None, "truncate": None, "typical_p": None,
        "watermark": False,
    }  # fmt: skip
    whole = {"inputs": "the movie", "parameters": {**defaults, **PARAMETERS}, "stream": False}
    assert [post(language_model, "/generate", whole).json()] == listed
    streamed = post(language_model, "/generate_stream", body).text
    last = json.loads(streamed.strip().split("data:")[-1])
    assert last["generated_text"] == listed[0]["generated_text"]
    full = {**body, "parameters": {**PARAMETERS, "return_full_text": True, "top_n_tokens": 2}}
    streamed = post(language_model, "/generate_stream", full).text
    last = json.loads(streamed.strip().split("data:")[-1])
    assert last["generated_text"] == "the movie" + listed[0]["generated_text"]
    assert len(last["top_tokens"]) == 2


@pytest.mark.parametrize(
    "accept", ["application/json", "*/*", "application/x-npy", "text/event-stream", ""]
)
def test_a_stream_comes_whatever_a_predictor_accepts(language_model, accept):
    body = {"inputs": "hi", "parameters": PARAMETERS, "stream": True}
    answer = post(language_model, "/invocations", body, Accept=accept)
    assert answer.headers["content-type"].startswith("text/event-stream")
    chat = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 2, "stream": True}
    answer = post(language_model, "/invocations", {**chat, "model": "my-endpoint"}, Accept=accept)
    assert answer.text.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize("sdk", ["v2", "v3"])
def test_the_predictors_of_sagemakers_sdk_answer_and_stream(language_model, tmp_path, sdk):
    folder, here = Path(sys.prefix) / "sdk-v2", Path(__file__).parent
    if sdk == "v2" and not folder.is_dir():
        pytest.skip("SDK v2 is not installed (`make setup-dev` puts it into .venv/sdk-v2)")
    path = [str(here.parents[1] / "helpers"), *([str(folder)] if sdk == "v2" else [])]
    body = {"inputs": "the movie", "parameters": PARAMETERS}
    command = [sys.executable, here / "sdk_predictors.py", sdk, tmp_path, json.dumps(body)]
    with runtime_of(language_model.port) as (url, seen):
        environ = {
            "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": url, "AWS_ACCESS_KEY_ID": "none",
            "AWS_SECRET_ACCESS_KEY": "none", "PYTHONPATH": os.pathsep.join(path),
            "NO_PROXY": "127.0.0.1",
        }  # fmt: skip
        told = subprocess.run(
            command, env={**os.environ, **environ}, capture_output=True, text=True, timeout=120
        )
    assert told.returncode == 0, told.stderr[-3000:]
    plain, streamed = json.loads(told.stdout.splitlines()[-1])
    assert {call["path"].rpartition("/")[2] for call in seen} == {
        "invocations", "invocations-response-stream"
    }  # fmt: skip
    assert {call["accept"] for call in seen} == {"application/json"}
    assert plain == post(language_model, "/invocations", body).json()
    last = json.loads(streamed.strip().split("data:")[-1])
    assert last["generated_text"] == plain[0]["generated_text"]


def test_health_version_and_tokens(language_model):
    client = language_model.client
    assert client.get("/health").status_code == 200
    assert set(client.get("/version").json()) == {"version"}
    told = post(language_model, "/tokenize", {"model": "x", "prompt": "the movie"}).json()
    assert told["count"] == len(told["tokens"]) > 0
    assert told["max_model_len"] == 512
    back = post(language_model, "/detokenize", {"model": "x", "tokens": told["tokens"]}).json()
    assert back == {"prompt": "the movie"}
    chat = {"messages": [{"role": "user", "content": "hi"}], "return_token_strs": True}
    told = post(language_model, "/tokenize", chat).json()
    assert told["token_strs"][0] == "<|user|>"
    by_tgi = post(language_model, "/tokenize", {"inputs": "the movie"}).json()
    assert [token["id"] for token in by_tgi] == post(
        language_model, "/tokenize", {"prompt": "the movie"}
    ).json()["tokens"]
    wrong = post(language_model, "/detokenize", {"tokens": [10**9]}, status=400)
    assert "1000000000" in wrong.text


def test_compressed_bodies_and_sessions(classifier):
    body = gzip.compress(json.dumps({"inputs": "good"}).encode())
    plain = classifier.invoke({"inputs": "good"}).json()
    headers = {"content_type": "application/json", "content_encoding": "gzip"}
    assert classifier.invoke(body, **headers).json() == plain
    bomb = gzip.compress(b" " * 20_000_000)
    assert classifier.invoke(bomb, **headers).status_code == 413
    session = classifier.invoke({"inputs": "good"}, x_amzn_sagemaker_session_id="NEW_SESSION")
    assert (session.status_code, "Session-Id" in session.text) == (400, True)
    stream = classifier.invoke({"inputs": "good", "stream": True})
    assert (stream.status_code, "does not stream" in stream.text) == (400, True)


def test_embeddings_of_teis_and_hugging_faces_clients(embedder):
    plain = embedder.invoke({"inputs": ["good", "bad"]}).json()
    assert post(embedder, "/embed", {"inputs": ["good", "bad"]}).json() == plain
    raw = {"inputs": "good", "normalize": False, "truncate": True}
    assert math.hypot(*post(embedder, "/", raw).json()[0]) != pytest.approx(1, abs=1e-3)
    long = {"inputs": "good " * 500}
    assert "tokens" in post(embedder, "/embed", long, status=400).text
    assert len(post(embedder, "/embed", {**long, "truncate": True}).json()) == 1


def test_reranking_equals_the_cross_encoder(cross_encoder, pool):
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    path = pool.model("cross-encoder", make_cross_encoder)
    tokenizer = AutoTokenizer.from_pretrained(path)
    model = AutoModelForSequenceClassification.from_pretrained(path)
    texts = ["good movie", "bad plot", "the acting was great"]
    with torch.inference_mode():
        logits = [
            float(model(**tokenizer("great film", text, return_tensors="pt")).logits)
            for text in texts
        ]
    expected = [1 / (1 + math.exp(-logit)) for logit in logits]
    order = sorted(range(3), key=lambda i: -expected[i])
    tei = {"query": "great film", "texts": texts}
    ranked = post(cross_encoder, "/rerank", tei).json()
    assert [row["index"] for row in ranked] == order
    assert [row["score"] for row in ranked] == pytest.approx([expected[i] for i in order], abs=1e-5)
    raw = post(cross_encoder, "/rerank", {**tei, "raw_scores": True, "return_text": True}).json()
    assert raw[0]["score"] == pytest.approx(logits[order[0]], abs=1e-4)
    assert raw[0]["text"] == texts[order[0]]
    jina = {"model": "any", "query": "great film", "documents": texts, "top_n": 2}
    results = post(cross_encoder, "/v1/rerank", jina).json()["results"]
    assert [row["document"]["text"] for row in results] == [texts[i] for i in order[:2]]
    pairs = {"model": "any", "text_1": "great film", "text_2": texts}
    data = post(cross_encoder, "/score", pairs).json()["data"]
    assert [row["score"] for row in data] == pytest.approx(expected, abs=1e-5)
    assert "text_2" in post(cross_encoder, "/score", {"text_1": "a", "text_2": []}, 400).text


def test_reranking_by_other_models(classifier, embedder):
    body = {"query": "a", "texts": ["a", "b"]}
    assert "3 labels" in post(classifier, "/rerank", body, status=400).text
    best = post(embedder, "/rerank", body).json()[0]
    assert (best["index"], best["score"]) == (0, pytest.approx(1, abs=1e-5))


GUIDELLM = {
    "/v1/chat/completions": {
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        "max_completion_tokens": 4,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
    },
    "/v1/responses": {
        "max_output_tokens": 4,
        "input": [{"role": "user", "content": [{"type": "input_text", "text": "hi"}]}],
    },
}


@pytest.mark.parametrize("path", GUIDELLM)
def test_guidellm_measures_streams(language_model, path):
    """Its requests as recorded; it asks /health and /v1/models first."""
    name = language_model.client.get("/v1/models").json()["data"][0]["id"]
    body = {"model": name, "stream": True, "ignore_eos": True, **GUIDELLM[path]}
    lines = post(language_model, path, body).text.splitlines()
    events = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    usage = events[-1].get("usage") or events[-1]["response"]["usage"]
    assert usage.get("completion_tokens", usage.get("output_tokens")) == 4


@pytest.mark.parametrize("stream", [False, True])
def test_litellm_asks_endpoints_in_both_formats(language_model, stream):
    """Bodies of `sagemaker_chat/` and `sagemaker/` as recorded, with its own address in them."""
    own = {"sagemaker_base_url": "http://127.0.0.1/endpoints/e/invocations"}
    chat = {"model": "e", "messages": [{"role": "user", "content": "hi"}], "temperature": 0.5,
            "max_tokens": 4, "stream": stream, **own}  # fmt: skip
    answer = post(language_model, "/invocations", chat, accept="*/*")
    assert ("data: [DONE]" in answer.text) == stream
    plain = {"inputs": "hi", "parameters": {"temperature": 0.5, "max_new_tokens": 4, **own}}
    answer = post(language_model, "/invocations", {**plain, **({"stream": True} if stream else {})})
    assert "generated_text" in answer.text
