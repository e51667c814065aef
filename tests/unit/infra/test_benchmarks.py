"""The rules that all benchmarks keep: turns, medians, a quiet machine."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy
import pytest
from safetensors.numpy import save_file

FOLDER = Path(__file__).parents[3] / "benchmarks"


@pytest.fixture
def harness() -> Any:
    specification = importlib.util.spec_from_file_location("harness", FOLDER / "harness.py")
    assert specification
    assert specification.loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch, harness: Any) -> Any:
    monkeypatch.setattr(harness.psutil, "cpu_percent", lambda _seconds: 2.0)
    return harness


def test_contenders_take_turns_and_the_order_is_turned_round(harness: Any) -> None:
    order: list[str] = []

    def run(name: str) -> float:
        order.append(name)
        return float(len(order))

    outcomes = harness.in_turn({name: lambda name=name: run(name) for name in "abc"}, 3)
    assert "".join(order) == "abccbaabc"
    assert outcomes == {"a": [1, 6, 7], "b": [2, 5, 8], "c": [3, 4, 9]}


def test_a_headline_is_the_middle_run_and_not_the_best(harness: Any) -> None:
    ours, theirs = [1449, 1685, 1444], [495, 494, 343.6]
    headline = harness.ratio(ours, theirs)
    assert headline == {"median": 3.411, "least": 2.927, "greatest": 4.203}
    assert harness.spreads([{"a": 1, "b": 2}, {"a": 3}, {"a": 2}])["a"]["median"] == 2


def options(harness: Any, *given: str) -> Any:
    return harness.parser("What it is.\n\nMore.", "x").parse_args(given)


def test_a_busy_machine_and_too_few_rounds_are_refused(
    quiet: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert quiet.begin(options(quiet))["busy_before"] == 0.02
    with pytest.raises(SystemExit, match="a median needs at least 3"):
        quiet.begin(options(quiet, "--rounds", "2"))
    monkeypatch.setattr(quiet.psutil, "cpu_percent", lambda _seconds: 60.0)
    with pytest.raises(SystemExit, match="the machine is busy: 60%"):
        quiet.begin(options(quiet))
    assert quiet.begin(options(quiet, "--force"))["forced"] is True


def test_a_quick_run_writes_nothing(quiet: Any, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    quiet.write(path, {"machine": quiet.begin(options(quiet, "--quick"))})
    assert not path.exists()
    quiet.write(path, {"machine": quiet.begin(options(quiet)), "a": 1})
    assert json.loads(path.read_text())["a"] == 1


@pytest.mark.parametrize(
    "script",
    ["data", "quantisation_libraries", "serving", "startup", "training_classification"],
)
def test_every_benchmark_has_the_same_options(
    script: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setattr(sys, "argv", [script, "--help"])
    specification = importlib.util.spec_from_file_location(script, FOLDER / f"{script}.py")
    assert specification
    assert specification.loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    with pytest.raises(SystemExit):
        module.main()
    shown = capsys.readouterr().out
    assert all(option in shown for option in ("--rounds", "--quick", "--force", "--output"))


def load_serving(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("serving")


def test_a_server_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    serving = load_serving(monkeypatch)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        post = serving.write_post("/", {})
        with pytest.raises(TimeoutError):
            serving.run_load(silent.getsockname()[1], [post] * 3, 2, 0.2)


def test_the_others_go_on_without_a_server_that_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    serving = load_serving(monkeypatch)
    options = argparse.Namespace(
        task="generation", against=["transformers"], clients=[1], requests=2, longest=None, limit=9
    )
    environ = {"BENCH_MODEL": "model"}
    ended = [sys.executable, "-c", "raise SystemExit('no such model')"]
    outcome = serving.attempt(serving.Target("transformers", ended, environ), options, tmp_path)
    assert "did not become ready" in outcome["failure"]
    assert "no such model" in outcome["failure"]
    with pytest.raises(SystemExit):  # what is ours is not passed over
        serving.attempt(serving.Target("sm-serve", ended, environ), options, tmp_path)


def test_a_failure_is_told_and_figures_are_of_the_other_rounds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    serving = load_serving(monkeypatch)

    def run(rate: float) -> dict[str, Any]:
        row = {"clients": 1, "requests_per_s": rate}
        return {"start": {"ready_s": 1.0}, "rows": [row], "answers": ["a", "b"]}

    failed = {"failure": "TimeoutError"}
    outcomes = {
        "sm-serve": [run(8), run(9), run(10)],
        "transformers": [run(4), failed, run(2)],
        "vllm": [failed] * 3,
    }
    told = serving.summarise("transformers", outcomes["transformers"], ["a", "c"])
    assert told["failures"] == [{"round": 2, "reason": "TimeoutError"}]
    assert told["same_answers"]["median"] == 0.5
    assert told["rows"][0]["requests_per_s"] == {"median": 3, "least": 2, "greatest": 4}
    none = serving.summarise("vllm", outcomes["vllm"], ["a", "b"])
    assert set(none) == {"server", "failures"}
    (row,) = serving.compare(outcomes, "sm-serve", "requests_per_s", [1])
    assert row["against"] == "transformers"
    assert row["requests_per_s_ratio"] == {"median": 3.5, "least": 2.0, "greatest": 5.0}


@pytest.mark.slow
def test_the_front_can_be_measured(tmp_path: Path) -> None:
    """Its engine without a model stands in for ours, so it must be what our server asks for."""
    command = [sys.executable, str(FOLDER / "serving.py"), "--task", "front", "--quick"]
    (tmp_path / "config.json").write_text('{"architectures": ["BertForSequenceClassification"]}')
    save_file({"classifier.bias": numpy.zeros(2)}, tmp_path / "model.safetensors")
    done = subprocess.run(
        [*command, "--model", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert '"server": "noop"' in done.stdout
