"""Raw data on a Hub: a small server that speaks its protocol, the real library, real HTTP."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from local_hub import LocalHub, running

TABLE = "text,label\n" + "".join(f"row {n},{'ab'[n % 2]}\n" for n in range(40))
FILES = {
    "all.csv": TABLE.encode(),
    "README.md": b"# A data set",
    "data/train-0.csv": TABLE.encode(),
    "data/train-1.csv": TABLE.replace("row", "line").encode(),
    "data/test-0.csv": TABLE.replace("row", "case").encode(),
}


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a machine whose Hub is a server of ours."""
    with running(LocalHub({"datasets/me/set": FILES})) as server:
        yield os.environ | server.environment(tmp_path / "hf")


_SCRIPT = """
import json, sys
from sm_launch import cli
for arguments in json.loads(sys.argv[1]):
    print("exit code", cli.run(arguments), flush=True)
"""


def _run(environment: dict[str, str], directory: Path, *commands: list[str]) -> str:
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, json.dumps(commands)],
        cwd=directory, env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    return done.stdout + done.stderr


def _prepare(location: str) -> list[str]:
    return ["data", "prepare", "--set", f"data.input={location}"]


@pytest.mark.slow
def test_files_of_the_hub_are_raw_data_and_channels(hub: dict[str, str], tmp_path: Path) -> None:
    base = "hf://datasets/me/set"
    told = _run(
        hub, tmp_path,
        ["init", "--data", f"{base}/all.csv"],
        ["data", "prepare"],
        _prepare(f"{base}@main/data/train-*.csv"),
        _prepare(f"{base}/data"),
        _prepare(f"{base}/none.csv"),
        _prepare("hf://datasets/me/other/a.csv"),
        _prepare("hf://models/me/other"),
        ["train", "--dry-run", "--set", f"training.channels.train={base}/all.csv"],
    )  # fmt: skip
    parts = told.split("exit code")
    assert [part.split()[0] for part in parts[1:]] == ["0", "0", "0", "2", "2", "2", "2", "0"], told
    assert "40 rows read, 40 kept" in told
    assert "80 rows read, 80 kept" in told
    assert "holds splits that somebody made: data/test-0.csv" in told or "test-0.csv" in told
    assert "no such data file in this data set" in told and "data/train-0.csv" in told
    assert "no such data set, or it is private" in told
    assert "names no data set of the Hub" in told
    request = json.loads(parts[-2].partition("\n")[2])
    uri = request["InputDataConfig"][0]["DataSource"]["S3DataSource"]["S3Uri"]
    assert Path(uri.removeprefix("file://")).read_text() == TABLE


@pytest.mark.slow
def test_a_hub_that_is_not_there_is_said_so(hub: dict[str, str], tmp_path: Path) -> None:
    offline = hub | {"HF_HUB_OFFLINE": "1"}
    (tmp_path / "job.yaml").write_text("name: a\ndata: {input: hf://datasets/me/set/all.csv}\n")
    told = _run(offline, tmp_path, ["data", "prepare"], _prepare("hf://datasets/me/set/data/*.csv"))
    assert told.count("exit code 1") == 2
    assert told.count("the Hub cannot be read") == 2 and "HF_HUB_OFFLINE" in told
