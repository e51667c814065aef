"""What /openapi.json says is true: schemathesis tries it on running servers."""

import subprocess
import sys
from pathlib import Path

import pytest
from serving_models import embedding_model

pytestmark = pytest.mark.slow

# What a schema cannot say (a context that is too short, a directory that is not there) is a 400.
SEMANTIC = "positive_data_acceptance"
ALIASES = "^/$|^/v./(rerank|score)$|^/generate$"
"""Other names of paths that are tried."""


@pytest.fixture(scope="module", params=["classifier", "embedder", "language-model"])
def server(request, pool, language_model_dir):
    if request.param == "classifier":
        return request.getfixturevalue("classifier")
    if request.param == "embedder":
        return pool.server(
            pool.model("embedder", embedding_model),
        )
    return pool.server(language_model_dir, SM_SERVE_MAX_NEW_TOKENS="2")


def test_schemathesis_finds_nothing(server):
    program = Path(sys.executable).parent / "st"
    command = [program, "run", f"{server.url}/openapi.json", "--phases", "coverage,fuzzing"]
    command += ["-n", "5", "--exclude-checks", SEMANTIC, "--request-timeout", "30", "--no-color"]
    command += ["--exclude-path-regex", ALIASES]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=server.base)
    assert run.returncode == 0, run.stdout[-6000:]
    assert server.ping() == 200


def test_the_document_lists_what_the_task_answers(server):
    paths = server.client.get("/openapi.json").json()["paths"]
    for path in ("/v1/chat/completions", "/v1/embeddings"):
        answer = server.client.post(path, json={"messages": [{"role": "user", "content": "a"}]})
        told = "needs a" in answer.text
        assert told == (path not in paths)
    assert server.client.get("/adapters").json() == {"adapters": []}
    assert {"/ping", "/invocations", "/metrics", "/execution-parameters", "/adapters"} <= set(paths)


def test_a_wrong_method_is_told_the_right_ones(server):
    answer = server.client.put("/invocations")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
