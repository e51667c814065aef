"""flash-attn's wheel: found by Python, torch and hash, or left out (containers/flash-attn)."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from sm_launch import images
from sm_launch.images import flash_attn

CONTAINERS = images.repository() / "containers"
PYTHON = f"cp{sys.version_info.major}{sys.version_info.minor}"
LABEL = "cu130torch2.13.0"
UV = str(Path(sys.executable).with_name("uv"))


def write_wheel(folder, version=f"2.8.3.post2+{LABEL}", python=PYTHON, marker="1"):
    """A real wheel with one module, in the shape of what the build stage makes."""
    folder.mkdir(parents=True, exist_ok=True)
    info = f"flash_attn-{version}.dist-info"
    path = folder / f"flash_attn-{version}-{python}-{python}-linux_x86_64.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("flash_attn/__init__.py", f"MARKER = {marker}\n")
        wheel.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: flash-attn\nVersion: {version}\n"
        )
        wheel.writestr(
            f"{info}/WHEEL",
            f"Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: {python}-{python}-linux_x86_64\n",
        )
        wheel.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def image(tmp_path):
    """A virtual environment with torch's version file, and the install script with its locks."""
    venv.create(tmp_path / "venv", with_pip=False)
    site = next((tmp_path / "venv" / "lib").glob("python3*")) / "site-packages"
    (site / "torch").mkdir()
    (site / "torch" / "version.py").write_text("__version__ = '2.13.0+cu130'\ncuda = '13.0'\n")
    info = site / "torch-2.13.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 2.13.0\n")
    (info / "RECORD").write_text("torch/version.py,,\n")
    shutil.copytree(CONTAINERS / "flash-attn", tmp_path / "locks")
    # Not einops from an index: this is about the wheel.
    build = tmp_path / "locks" / "build.txt"
    build.write_text(build.read_text().replace("einops==", "absent=="))
    (tmp_path / "wheels").mkdir()
    return tmp_path


def install(image):
    # uv would take the wheel that it remembers.
    environment = {**os.environ, "UV": UV, "UV_NO_CACHE": "1"}
    command = [image / "locks" / "install", image / "venv", image / "wheels"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def installed(image):
    python = image / "venv" / "bin" / "python"
    command = [python, "-c", "import flash_attn; print(flash_attn.MARKER)"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def test_without_a_wheel_the_image_goes_without(image):
    write_wheel(image / "wheels", python="cp37")
    answer = install(image)
    assert answer.returncode == 0, answer.stderr
    assert "sdpa" in answer.stdout
    assert not installed(image)


@pytest.mark.slow
def test_a_recorded_wheel_is_installed_and_a_changed_one_is_not(image):
    wheel = write_wheel(image / "wheels")
    flash_attn.record([wheel], image / "locks" / "wheels.txt")
    answer = install(image)
    assert answer.returncode == 0, answer.stderr
    assert installed(image) == "1"
    shutil.rmtree(next((image / "venv" / "lib").glob("python3*/site-packages/flash_attn")))
    shutil.rmtree(next((image / "venv" / "lib").glob("python3*/site-packages/flash_attn-*")))
    write_wheel(image / "wheels", marker="2")
    answer = install(image)
    assert answer.returncode
    assert "hash" in answer.stderr.lower()
    assert not installed(image)


def test_a_wheel_of_another_torch_is_refused_with_the_way_out(image):
    wheel = write_wheel(image / "wheels", version="2.8.3.post2+cu128torch2.8.0")
    flash_attn.record([wheel], image / "locks" / "wheels.txt")
    answer = install(image)
    assert answer.returncode
    assert LABEL in answer.stderr
    assert "make flash-attn-wheel" in answer.stderr


def test_hashes_of_one_version_add_up_and_another_version_replaces_them(tmp_path):
    lock = tmp_path / "wheels.txt"
    lock.write_text("# what these are\n")
    wheels = [write_wheel(tmp_path / python, python=python) for python in ("cp311", "cp312")]
    for wheel in (*wheels, wheels[0]):
        flash_attn.record([wheel], lock)
    text = lock.read_text()
    assert text.startswith(f"# what these are\nflash-attn==2.8.3.post2+{LABEL} \\\n")
    assert len(re.findall("--hash=sha256:[0-9a-f]{64}", text)) == 2
    flash_attn.record([write_wheel(tmp_path, version="2.9+cu130torch2.14.0")], lock)
    assert lock.read_text().count("--hash") == 1
    assert "2.8.3" not in lock.read_text()


def test_what_is_recorded_fits_the_pinned_torch():
    text = (CONTAINERS / "flash-attn" / "wheels.txt").read_text()
    torch = images.locked_versions(images.repository(), "train", "gpu")["torch"]
    for pin in re.findall(r"^flash-attn==(\S+)", text, re.MULTILINE):
        assert pin.endswith(f"torch{torch}"), "run `make flash-attn-wheel` for the new torch"
