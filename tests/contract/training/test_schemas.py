"""The launcher's copies of what the training container generates."""

from __future__ import annotations

from pathlib import Path

import pytest

import sm_train.methods.schema

LAUNCHER = Path(__file__).parents[3] / "sm_launch" / "schemas"


def test_both_copies_are_the_same() -> None:
    ours = {p.name: p.read_text() for p in sm_train.methods.schema.FOLDER.glob("*.json")}
    assert ours == {p.name: p.read_text() for p in LAUNCHER.glob("*.json")}


@pytest.mark.slow
def test_they_are_what_the_classes_say() -> None:
    for name, text in sm_train.methods.schema.rendered().items():
        assert (sm_train.methods.schema.FOLDER / name).read_text() == text, name
