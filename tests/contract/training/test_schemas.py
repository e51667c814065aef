"""What the training container generates, and the launcher's wheel brings along."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

import sm_train.methods.schema
from sm_launch.commands import task_example
from sm_train.settings.schema_files import FOLDER

REPOSITORY = Path(__file__).parents[3]


def test_a_wheel_of_the_launcher_holds_the_same_files(tmp_path: Path) -> None:
    (wheel,) = WheelBuilder(str(REPOSITORY)).build(directory=str(tmp_path))
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        held = {Path(n).name: archive.read(n) for n in names if "/schemas/" in n}
    assert held == {path.name: path.read_bytes() for path in FOLDER.glob("*.json")}
    examples = {Path(n).parts[2] for n in names if n.startswith("sm_launch/examples/")}
    assert examples == set(task_example.names())
    assert not [n for n in names if "/build/" in n or n.startswith("examples/")]
    modules = {n.removeprefix("sm_launch/trainer/") for n in names if "/trainer/" in n}
    assert "sm_train/check.py" in modules
    assert not [n for n in modules if "__pycache__" in n]


@pytest.mark.slow
def test_they_are_what_the_classes_say() -> None:
    for name, text in sm_train.methods.schema.rendered().items():
        assert (FOLDER / name).read_text() == text, name
