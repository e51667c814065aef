"""CUDA's forward compatibility: when it is switched on, in both images."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from sm_serve.platform import compat as serving
from sm_train.platform import compat as training

DRIVER = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  {}  Thu Jan  1 00:00:00 UTC 2026\n"
OPEN = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {}  Release Build\n"


class StartedError(Exception):
    """The process would have been replaced."""


@pytest.fixture(params=[training, serving])
def compat(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The module of one image, with an image's folder and a machine's driver of our own."""
    module: ModuleType = request.param
    folder = tmp_path / "compat"
    folder.mkdir()
    (folder / "libcuda.so.580.82.07").touch()
    (folder / "libcuda.so.1").symlink_to("libcuda.so.580.82.07")
    monkeypatch.setattr(module, "FOLDER", folder)
    monkeypatch.setattr(module, "_DRIVER", tmp_path / "version")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/opt/lib")

    def started(*_given: object) -> None:
        raise StartedError

    monkeypatch.setattr(os, "execv", started)
    return module


@pytest.mark.parametrize("text", [DRIVER, OPEN])
def test_an_older_driver_gets_the_libraries(compat, text: str, capsys) -> None:
    compat._DRIVER.write_text(text.format("535.183.01"))
    with pytest.raises(StartedError):
        compat.start_compatibly()
    assert os.environ["LD_LIBRARY_PATH"] == f"{compat.FOLDER}:/opt/lib"
    assert "NVIDIA driver 535.183.01: using the libraries of 580.82.07" in capsys.readouterr().out
    compat.start_compatibly()  # the new process goes on
    assert "is on" in compat.state()


@pytest.mark.parametrize("version", ["580.65.06", "580.95.05", "590.10"])
def test_a_driver_of_the_same_branch_or_newer_needs_none(compat, version: str) -> None:
    compat._DRIVER.write_text(DRIVER.format(version))
    compat.start_compatibly()
    assert "is off" in compat.state()


def test_without_driver_or_libraries_nothing_happens(compat) -> None:
    compat.start_compatibly()
    compat._DRIVER.write_text(DRIVER.format("535.183.01"))
    (compat.FOLDER / "libcuda.so.1").unlink()
    compat.start_compatibly()
    assert "is not in this image" in compat.state()


@pytest.mark.parametrize("name", ["sm_train", "sm_serve"])
def test_the_process_goes_on_with_the_same_arguments(name: str, tmp_path: Path) -> None:
    (tmp_path / "libcuda.so.580.82.07").touch()
    (tmp_path / "libcuda.so.1").symlink_to("libcuda.so.580.82.07")
    (tmp_path / "version").write_text(DRIVER.format("535.183.01"))
    script = tmp_path / "start.py"
    script.write_text(
        f"import os, sys, pathlib\nfrom {name}.platform import compat\n"
        f"compat.FOLDER = pathlib.Path({str(tmp_path)!r})\n"
        "compat._DRIVER = compat.FOLDER / 'version'\ncompat.start_compatibly()\n"
        "print(sys.argv[1:], os.environ['LD_LIBRARY_PATH'])\n"
    )
    answer = subprocess.run(
        [sys.executable, script, "one", "two"], capture_output=True, text=True, check=True
    )
    assert answer.stdout.splitlines()[-1] == f"['one', 'two'] {tmp_path}"
