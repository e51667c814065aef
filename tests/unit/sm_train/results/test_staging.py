"""The model directory gets a whole artefact or none."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sm_train.results.staging import discard_half_written, staged

FILES = ["config.json", "model.safetensors", "tokenizer/vocab.txt"]


@pytest.fixture(params=["folder", "empty folder", "nothing", "disk", "bind mount"])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """The model directory as platforms give it; some of them mount it."""
    target = tmp_path / "model"
    if request.param != "nothing":
        target.mkdir()
    mounts = {
        "disk": ["-t", "tmpfs", "-o", "size=256k", "tmpfs"],
        "bind mount": ["--bind", str(tmp_path)],
    }
    mounted = request.param in mounts
    if request.param == "bind mount":
        (tmp_path / "elsewhere").mkdir()
        mounts["bind mount"] = ["--bind", str(tmp_path / "elsewhere")]
    if mounted:
        command = ["mount", *mounts[request.param], str(target)]
        if os.geteuid() or subprocess.run(command, check=False, capture_output=True).returncode:
            pytest.skip("only root may mount a file system")
    if request.param in ("folder", "disk"):
        (target / "config.json").write_text("earlier")
        (target / "adapter_config.json").write_text("earlier")
    yield target
    if mounted:
        subprocess.run(["umount", str(target)], check=True)


def write(folder: Path) -> None:
    for name in FILES:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("new")


def content(folder: Path) -> dict[str, str]:
    files = folder.rglob("*") if folder.exists() else ()
    return {str(p.relative_to(folder)): p.read_text() for p in files if p.is_file()}


def test_the_whole_artefact_replaces_what_was_there(model: Path) -> None:
    with staged(model) as folder:
        write(folder)
        assert content(model).get("config.json") in ("earlier", None)
    assert content(model) == dict.fromkeys(FILES, "new")
    assert sorted(model.parent.glob(".model*")) == []


def test_an_error_leaves_what_was_there(model: Path) -> None:
    before = content(model)
    with pytest.raises(OSError), staged(model) as folder:
        write(folder)
        raise OSError("No space left on device")
    assert content(model) == before
    assert sorted(model.parent.glob(".model*")) == []


def test_a_kill_leaves_nothing_that_the_next_start_does_not_remove(model: Path) -> None:
    before = content(model)
    program = (
        "import os, sys, pathlib, sm_train.results.staging as s\n"
        "with s.staged(pathlib.Path(sys.argv[1])) as f:\n"
        "    (f / 'config.json').write_text('half')\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(model)], check=False)
    assert killed.returncode == -9
    visible = {name: text for name, text in content(model).items() if name[0] != "."}
    assert visible == before
    discard_half_written(model)
    assert content(model) == before
    assert sorted(model.parent.glob(".model*")) == []


def test_a_kill_between_the_two_moves_brings_back_what_was_there(tmp_path: Path) -> None:
    (tmp_path / ".model-former").mkdir()
    (tmp_path / ".model-former" / "config.json").write_text("earlier")
    (tmp_path / ".model-writing").mkdir()
    discard_half_written(tmp_path / "model")
    assert content(tmp_path) == {"model/config.json": "earlier"}
