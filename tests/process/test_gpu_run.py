"""The prepared GPU run, dry: every step with a small model on the CPU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).parents[2] / "benchmarks" / "gpu" / "run.py"
NEEDS_A_GPU = {"compiled", "fsdp", "vllm", "memory", "serving-vllm"} | {
    f"mfu-{name}" for name in ("1b-full", "8b-lora", "8b-full")
}


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(RUN), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_what_would_run_is_said_in_order_of_risk() -> None:
    lines = run("--dry-run", "--cpu").stdout.splitlines()
    names = [line.split()[0] for line in lines]
    assert names[:3] == ["sft", "lora", "qlora"]
    assert {name for name, line in zip(names, lines, strict=True) if "needs" in line} == NEEDS_A_GPU


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_step_runs_and_leaves_its_figures(tmp_path: Path) -> None:
    # What it does has tests of its own; a busy machine's clock decides how it ends here.
    done = run("--cpu", "--out", tmp_path, "--budget", 800, "--skip", "resume")
    records = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert done.returncode == 0, [r for r in records if r["status"] == "failed"]
    assert {r["step"] for r in records if r["status"] == "skipped"} == NEEDS_A_GPU
    figures = {r["step"]: r["figures"] for r in records if r["status"] == "ok"}
    assert figures["lora"]["dtype"] == "bfloat16"
    assert figures["continuous"]["float32"]["same_as_transformers"] == 1
    assert figures["mfu-1b-lora"]["tokens_per_second"] > 0
    assert "===== against-trl" in (tmp_path / "log.txt").read_text()


@pytest.mark.slow
def test_a_step_that_fails_or_takes_too_long_does_not_end_the_run(tmp_path: Path) -> None:
    done = run("--cpu", "--out", tmp_path, "--only", "sft", "resume", "--budget", 21)
    first, second = map(json.loads, (tmp_path / "results.jsonl").read_text().splitlines())
    assert done.returncode in (0, 1)
    assert first["step"] == "sft"
    assert first["status"] == "ok" or "it took over" in first["reason"]
    assert (second["status"], second["reason"]) == ("skipped", "no time is left")
