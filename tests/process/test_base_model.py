"""A model of a Hub behind an endpoint: a small server with the Hub's protocol, all else real."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from local_hub import COMMIT, LocalHub, files_of, running

sys.path.insert(0, str(Path(__file__).parent / "serving"))

pytestmark = pytest.mark.slow
TOKEN = "hf_a_secret_of_mine"
RUN = """
import json, sys
from sm_launch import cli
for arguments in json.loads(sys.argv[1]):
    print("exit code", cli.run(arguments), flush=True)
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    import serving_models

    folder = tmp_path_factory.mktemp("hub") / "tiny"
    serving_models.classifier(folder)
    others = {"pytorch_model.bin": b"x" * 5000, "onnx/model.onnx": b"y" * 5000}
    return files_of(folder) | others


def test_the_server_downloads_it_and_says_so_meanwhile(
    repository: dict[str, bytes], tmp_path: Path
) -> None:
    from serving_process import Server

    with running(LocalHub({"me/tiny": repository}, TOKEN, pause=0.2)) as hub:
        environ = hub.environment(tmp_path / "hf") | {
            "HF_MODEL_ID": "me/tiny",
            "HUGGING_FACE_HUB_TOKEN": TOKEN,
        }
        with Server(tmp_path, wait=False, **environ) as server:
            told = set()
            while server.process.poll() is None and server.ping() != 200:
                if server.ping() == 503:
                    told.add(server.client.get("/ping").json().get("reason", ""))
            listed = server.client.get("/v1/models").json()["data"][0]
            answer = server.invoke({"inputs": "good film"})
        log = server.log.read_text()
    assert any("MB" in line and "downloaded" in line for line in told), told
    assert (listed["root"], listed["revision"]) == ("me/tiny", COMMIT)
    assert answer.status_code == 200 and answer.json()[0]["label"]
    assert f"HF_MODEL_REVISION='main' may move, and is {COMMIT}" in log
    assert "left out are 2 files" in log
    assert not any("onnx" in path or ".bin" in path for path in hub.asked)
    assert TOKEN not in log


def test_the_baseline_is_deployed_and_measured(
    repository: dict[str, bytes], tmp_path: Path
) -> None:
    rows = [{"text": f"{word} film", "label": "positive"} for word in ("good", "bad", "poor")]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "job.yaml").write_text(
        "name: mine\ntarget: process\nendpoint: {model: me/tiny}\nevaluation: {data: rows.jsonl}\n"
    )
    isolated = ["deploy", "--set", "endpoint.network.isolation=true"]
    commands = [isolated, ["deploy"], ["evaluate", "--json"], ["delete", "mine", "--yes"]]
    with running(LocalHub({"me/tiny": repository})) as hub:
        environ = os.environ | hub.environment(tmp_path / "hf")
        environ["SM_LAUNCH_HOME"] = str(tmp_path / "state")
        done = subprocess.run(
            [sys.executable, "-c", RUN, json.dumps(commands)],
            cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=180, check=False,
        )  # fmt: skip
    parts = done.stdout.split("exit code")
    assert [part.split()[0] for part in parts[1:]] == ["2", "0", "0", "0"], (
        done.stdout + done.stderr
    )
    assert "endpoint.network.isolation" in done.stderr
    assert "is not pinned" not in done.stderr
    result = json.loads(parts[2].partition("\n")[2])
    assert result["run"]["model"] == f"hf://me/tiny@{COMMIT}"
    assert result["rows"]["evaluated"] == 3
