"""What a user does with an endpoint, through the command line: stream, chat, monitor, drift.

The models are tiny and random; their answers are nonsense, but real ones.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from sm_launch import cli

sys.path.insert(0, str(Path(__file__).parent / "serving"))

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    import serving_models

    directory = tmp_path_factory.mktemp("endpoints")
    serving_models.language_model(directory / "lm")
    serving_models.classifier(directory / "classifier")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        patch.setenv("SM_LAUNCH_HOME", str(directory / "state"))
        capture = {"data_capture": {"percentage": 100}}
        document = {"name": "mine", "target": "process", "endpoint": capture}
        Path("job.yaml").write_text(yaml.safe_dump(document))
        assert cli.run(["deploy", "--model-data", "classifier"]) == 0
        assert cli.run(["deploy", "--model-data", "lm", "--name", "talk"]) == 0
        yield directory
        cli.run(["delete", "mine", "talk", "--target", "process"])


def test_streams_and_conversations(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    target = ["--target", "process"]
    ask = ["invoke", "talk", "--text", "hello movie", "--parameters", '{"max_new_tokens": 12}']
    assert cli.run([*ask, *target]) == 0
    whole = json.loads(capsys.readouterr().out)[0]["generated_text"]
    assert cli.run([*ask, "--stream", *target]) == 0
    streamed = capsys.readouterr().out
    plain = [text.encode("ascii", "ignore").decode() for text in (whole, streamed)]
    letters = ["".join(c for c in text if c.isalpha()) for text in plain]
    assert letters[0] == letters[1] != ""
    assert not any(ord(c) < 32 for c in streamed.rstrip("\n") if c not in "\n\t")
    assert cli.run([*ask, "--stream", "--raw", *target]) == 0
    assert capsys.readouterr().out.count("data:") >= 10

    turns = "hello you\nnot very\n/reset\n/nonsense\n/system be bad\nhello you\n/exit\nnever\n"
    monkeypatch.setattr(sys, "stdin", io.StringIO(turns))
    assert cli.run(["chat", "talk", "--max-tokens", "6", "--temperature", "0", *target]) == 0
    captured = capsys.readouterr()
    assert len(captured.out.strip()) > 3
    assert "/reset forgets" in captured.err
    monkeypatch.setattr(sys, "stdin", io.StringIO("hello\n"))
    assert cli.run(["chat", "mine", *target]) == 1  # a classifier does not talk
    assert "error" in capsys.readouterr().err
    assert cli.run(["chat", "nobody", *target]) == 1


def test_the_monitor_sees_requests_and_drift(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = folder / "build" / "mine" / "data" / "train"
    train.mkdir(parents=True)
    rows = [{"text": "film " * (i % 40 + 20), "label": "sarcastic"} for i in range(400)]
    (train / "train.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    body = folder / "body.json"
    body.write_text(json.dumps({"inputs": ["bad", "good film"] * 30}))
    for _ in range(2):
        assert cli.run(["invoke", "mine", "--file", str(body), "--target", "process"]) == 0
    capsys.readouterr()

    report = folder / "monitor.html"
    command = ["monitor", "--json", "--fail-on-drift", "--report", str(report)]
    assert cli.run(command) == 3
    seen = json.loads(capsys.readouterr().out)
    metrics = seen["variants"]["AllTraffic"]
    assert metrics["invocations"]["sum"] >= 2
    assert metrics["model_p99"]["max"] > 0
    assert metrics["memory"]["last"] > 0
    drift = {each["what"]: each for each in seen["drift"]}
    assert drift["input length"]["state"] == drift["label"]["state"] == "drift"
    assert drift["label"]["captured_rows"] == 120
    assert "Drift against the training set" in report.read_text()
    assert cli.run(["monitor", "talk", "--once"]) == 0
    assert "invocations" in capsys.readouterr().out
    assert cli.run(["monitor", "--once", "--set", "monitoring.latency_p99_ms=0.01"]) == 0
    assert "model latency p99" in capsys.readouterr().out


def test_captured_answers_are_measured_and_another_model_is_asked_the_same(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The endpoint's own model, asked again, answers the same."""
    assert cli.run(["invoke", "mine", "--text", "awful", "--target", "process"]) == 0
    capsys.readouterr()
    lines = [
        line
        for file in (folder / "build").rglob("*.jsonl")
        for line in file.read_text().splitlines()
        if "captureData" in line
    ]
    events = [json.loads(line) for line in lines]
    truth = [
        {"eventId": each["eventMetadata"]["eventId"], "label": "nobody answers this"}
        for each in events
        if each["captureData"]["endpointInput"]["data"].count("awful")
    ]
    (folder / "truth.jsonl").write_text("\n".join(map(json.dumps, truth)))
    out = ["--output", str(folder / "captured"), "--json"]
    own = ["evaluate", "--captured", "mine", "--labels", "truth.jsonl", *out]
    assert cli.run([*own, "--fail-under", "accuracy=0.5"]) == 3
    result = json.loads(capsys.readouterr().out)
    assert (result["metrics"]["accuracy"], result["rows"]["total"]) == (0, 1)
    assert result["latency_ms"] is None

    shadow = ["evaluate", "--captured", "mine", "--endpoint", "mine", *out]
    assert cli.run([*shadow, "--fail-under", "accuracy=1"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["metrics"]["accuracy"] == 1
    assert result["latency_ms"]["count"] > 0
    assert any("what is right is what is equal" in each for each in result["warnings"])
    assert cli.run([*shadow, "--fail-over", "accuracy=0.5"]) == 3
