"""What presidio recognises is masked beside the built-in patterns, offline and in every worker."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sm_launch.data.presidio import _analyzer, masker
from sm_launch.data.steps import build
from sm_launch.errors import UserInputError
from sm_launch.job.data import DataConfig, Presidio

pytestmark = pytest.mark.slow  # imports spaCy


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A spaCy pipeline on disk that knows two names and a place by heart."""
    spacy = pytest.importorskip("spacy", reason="pip install 'sm-launch[pii]'")
    pytest.importorskip("presidio_analyzer", reason="pip install 'sm-launch[pii]'")
    blank = spacy.blank("en")
    ruler = blank.add_pipe("entity_ruler")
    names = [
        ("PERSON", "Ada Lovelace"),
        ("PERSON", "Zoë"),
        ("GPE", "Rotterdam"),
        ("ORG", "[EMAIL]"),
    ]
    ruler.add_patterns([{"label": label, "pattern": text} for label, text in names])
    folder = tmp_path_factory.mktemp("spacy") / "names"
    blank.to_disk(folder)
    return str(folder)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("Ada Lovelace wrote to Zoë in Rotterdam.", "[PERSON] wrote to [PERSON] in [LOCATION]."),
        ("ask Zoë: zoe@mail.example", "ask [PERSON]: [EMAIL]"),
        ("nothing here, 2026-11-30, see https://x.example", None),
        ("", ""),
        ("Zoë " * 3, "[PERSON] " * 3),
    ],
)
def test_names_follow_the_patterns(text: str, masked: str | None, pipeline: str) -> None:
    mask = build(["mask_pii"], presidio=Presidio(model=pipeline, least_score=0.3))
    assert mask(text) == (text if masked is None else masked)


def test_without_a_model_there_are_no_names(pipeline: str) -> None:
    mask = masker(Presidio())
    assert mask("Ada Lovelace: 4111 1111 1111 1111") == "Ada Lovelace: [CARD]"


def test_entities_can_be_chosen(pipeline: str) -> None:
    mask = masker(Presidio(model=pipeline, entities=["LOCATION"]))
    assert mask("Zoë in Rotterdam") == "Zoë in [LOCATION]"
    with pytest.raises(UserInputError, match=r"(?s)data\.presidio\.entities.*'NAME'.*PERSON"):
        masker(Presidio(model=pipeline, entities=["NAME"]))


def test_what_is_not_there_is_refused_with_the_fix(
    pipeline: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = r"(?s)data\.presidio\.model.*'no_such_pipeline'.*install"
    with pytest.raises(UserInputError, match=told):
        masker(Presidio(model="no_such_pipeline"))
    _analyzer.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "presidio_analyzer", None)
    with pytest.raises(UserInputError, match=r"(?s)presidio_analyzer.*'sm-launch\[pii\]'"):
        masker(Presidio())


def test_workers_mask_as_one_process_does(pipeline: str, run: Any, tmp_path: Path) -> None:
    rows = [{"text": f"Zoë said {i}", "label": "ab"[i % 2]} for i in range(40)]
    (tmp_path / "raw.jsonl").write_text("\n".join(map(json.dumps, rows)))
    settings = {"input": "raw.jsonl", "steps": ["mask_pii"], "presidio": {"model": pipeline}}
    (one, two) = (run(**settings, workers=count).all_rows for count in (1, 2))
    assert one == two
    assert {row["text"].split()[0] for row in one} == {"[PERSON]"}


def test_it_is_part_of_the_step() -> None:
    with pytest.raises(ValueError, match="presidio is part of the step mask_pii"):
        DataConfig.model_validate({"input": "x.csv", "presidio": {}})
