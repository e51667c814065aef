"""Standard benchmarks: what the harness is given and writes, and the way to the endpoint."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from botocore.exceptions import ClientError

from sm_launch import cli
from sm_launch.errors import LaunchError
from sm_launch.evaluation import harness
from sm_launch.evaluation.bridge import bridge
from sm_launch.job.evaluation import Benchmark

# As lm_eval 0.4.13 has written it, shortened.
RESULTS = {
    "results": {
        "sums": {
            "alias": "sums", "sample_len": 3,
            "exact_match,none": 0.0, "exact_match_stderr,none": 0.0,
            "exact_match,strict-match": 0.75, "exact_match_stderr,strict-match": 0.25,
        },
        "poem": {"perplexity,none": 12.5, "perplexity_stderr,none": "N/A"},
    },
    "n-samples": {"sums": {"original": 4, "effective": 3}, "poem": {"original": 2, "effective": 2}},
}  # fmt: skip
SAMPLE = {
    "doc_id": 0, "doc": {"question": "1 + 1 ="}, "target": "2",
    "arguments": {"gen_args_0": {"arg_0": "1 + 1 =", "arg_1": {"until": []}}},
    "resps": [["3"]], "filtered_resps": ["3"], "filter": "none",
    "metrics": ["exact_match"], "exact_match": 0.0,
}  # fmt: skip


def written(directory: Path) -> Path:
    folder = directory / "model"
    folder.mkdir(parents=True)
    (folder / "results_2030-01-01T00-00-00.json").write_text(json.dumps(RESULTS))
    second = SAMPLE | {"filter": "strict-match", "filtered_resps": ["2"]}
    lines = "".join(f"{json.dumps(row)}\n" for row in (SAMPLE, second))
    (folder / "samples_sums_2030-01-01T00-00-00.jsonl").write_text(lines)
    return directory


def test_results_have_names_intervals_and_answers(tmp_path: Path) -> None:
    measured = harness.read_results(written(tmp_path))
    assert measured.metrics == {
        "sums.exact_match": 0.0, "sums.exact_match.strict-match": 0.75, "poem.perplexity": 12.5
    }  # fmt: skip
    interval = measured.intervals["sums.exact_match.strict-match"]
    assert (interval.low, interval.high) == (pytest.approx(0.26, abs=0.001), 1.0)
    assert "poem.perplexity" not in measured.intervals
    none_right = measured.intervals["sums.exact_match"]  # of three questions: no certainty at all
    assert none_right.low == 0
    assert none_right.high > 0.5
    assert measured.rows == 5
    (prediction,) = measured.predictions
    assert (prediction.text, prediction.gold, prediction.predicted) == ("1 + 1 =", "2", "3")
    assert not prediction.correct
    with pytest.raises(LaunchError, match="wrote no results"):
        harness.read_results(tmp_path / "elsewhere")


def test_the_command_says_how_it_is_asked(tmp_path: Path) -> None:
    settings = Benchmark(tasks=["a", "b"], fewshot=0, limit=5)
    given = {"base_url": "http://x", "model": "m", "files": tmp_path, "directory": tmp_path}
    arguments = harness.command(settings, **given)  # type: ignore[arg-type]
    assert arguments[arguments.index("--model") + 1] == "local-completions"
    assert "base_url=http://x/v1/completions" in arguments[arguments.index("--model_args") + 1]
    assert "tokenizer_backend=none" in arguments[arguments.index("--model_args") + 1]
    assert arguments[arguments.index("--num_fewshot") + 1] == "0"
    assert "--apply_chat_template" not in arguments
    chat = Benchmark(tasks=["a"], chat=True, tokenizer="org/t")
    arguments = harness.command(chat, **given | {"files": None})  # type: ignore[arg-type]
    assert "base_url=http://x/v1/chat/completions" in arguments[arguments.index("--model_args") + 1]
    assert "tokenizer=org/t" in arguments[arguments.index("--model_args") + 1]
    assert "--include_path" not in arguments and "--apply_chat_template" in arguments


class Session:
    """Answers with what it was asked, or with the server's error."""

    def invoke_endpoint(self, **request: Any) -> dict[str, Any]:
        if request["Body"] == b"bad":
            response: Any = {
                "Error": {"Code": "ModelError", "Message": "no"},
                "OriginalStatusCode": 422,
                "OriginalMessage": "max_tokens: too many",
            }
            raise ClientError(response, "InvokeEndpoint")
        told = {key: value for key, value in request.items() if key != "Body"}
        return {"Body": io.BytesIO(json.dumps(told).encode())}


@pytest.mark.slow
def test_the_bridge_hands_on_routes_and_errors() -> None:
    with bridge(Session(), "mine") as url:  # type: ignore[arg-type]
        answer = httpx.post(f"{url}/v1/completions", content=b"{}")
        assert answer.json()["CustomAttributes"] == "route=/v1/completions"
        assert answer.json()["EndpointName"] == "mine"
        refused = httpx.post(f"{url}/v1/chat/completions", content=b"bad")
        assert (refused.status_code, refused.json()["error"]["message"]) == (
            422, "max_tokens: too many"
        )  # fmt: skip


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--benchmark", "job"], "names no task"),
        (["--benchmark", "gsm8k", "--data", "rows.jsonl"], "brings its own questions"),
        (["--benchmark", "gsm8k", "--benchmark-files", "nowhere"], "no such directory"),
        (["--benchmark", "gsm8k"], "pip install 'sm-launch[benchmark]'"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_a_server_starts(
    options: list[str],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sm_launch.evaluation.harness.find_spec", lambda _: None)
    Path("job.yaml").write_text("name: mine\ntarget: process\n")
    assert cli.run(["evaluate", "--model-data", ".", *options]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.slow
def test_what_the_harness_raised_is_said_without_its_way_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The harness itself, where it is installed, or Python's own word that it is not."""
    settings = Benchmark(tasks=["no-such-task"])
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(LaunchError) as failed:
        harness.run_harness(
            settings, base_url="http://127.0.0.1:9", model="m", files=None, directory=tmp_path
        )
    said = str(failed.value)
    assert "no-such-task" in said or "No module named" in said
    assert "File " not in said
