"""A classifier answers by the thresholds that its config.json, or its adapter's, brings."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from serving_adapters import make_adapter, make_base
from serving_process import Server

from sm_serve.artefact.artefact import inspect
from sm_serve.config import Settings
from sm_serve.engines.registry import load_engine
from sm_serve.errors import StartupError

pytestmark = pytest.mark.slow

TEXTS = ["the movie was good", "bad", "we loved it " * 9, "hello world one two three", "who?"]
LABELS = ["awful", "fine", "great"]
ALL = {"top_k": None}


def write(path: Path, threshold: Any, problem_type: str | None = None) -> None:
    """As training writes it."""
    config = json.loads((path / "config.json").read_text())
    config["task_specific_params"] = {"text-classification": {"threshold": threshold}}
    config["problem_type"] = problem_type
    (path / "config.json").write_text(json.dumps(config))


def ask(path: Path, *jobs: dict[str, Any]) -> list[Any]:
    """Answers of an engine to the texts, for parameters each."""
    engine = load_engine(inspect(path, Settings()), Settings())

    async def run() -> list[Any]:
        return await asyncio.gather(*(engine.predict(TEXTS, job) for job in jobs))

    try:
        return asyncio.run(run())
    finally:
        engine.close()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_base(tmp_path / "model", "bert", "AutoModelForSequenceClassification", LABELS)


def scores_of(answer: list[dict[str, Any]]) -> dict[str, float]:
    return {each["label"]: each["score"] for each in answer}


def test_the_best_class_is_that_of_the_largest_score_by_its_threshold(model: Path) -> None:
    plain, plain_best = ask(model, ALL, {})
    limits = {"awful": 0.05, "fine": 0.35, "great": 0.6}
    write(model, limits)
    told, best, two, raw, given = ask(
        model, ALL, {}, {"top_k": 2}, {"function_to_apply": "none"}, {"apply_threshold": True}
    )
    expected = []
    for before, after in zip(plain, told, strict=True):
        assert scores_of(before) == pytest.approx(scores_of(after))
        order = sorted(before, key=lambda each: -each["score"] / limits[each["label"]])
        assert [each["label"] for each in after] == [each["label"] for each in order]
        expected.append(after[0]["label"])
    assert [each["label"] for each in best] == expected
    assert [each["label"] for each in raw] == expected
    assert [[each["label"] for each in answer] for answer in given] == [[e] for e in expected]
    assert two == [after[:2] for after in told]
    assert expected != [each["label"] for each in plain_best]


@pytest.mark.parametrize("threshold", [None, 0.4, {"awful": 0.9, "fine": 0.1}])
def test_several_labels_are_those_that_reach_their_threshold(model: Path, threshold: Any) -> None:
    write(model, threshold, "multi_label_classification")
    everything, given, first = ask(
        model, ALL, {"apply_threshold": True}, {"apply_threshold": True, "top_k": 1}
    )
    named = threshold if isinstance(threshold, dict) else {}
    usual = threshold if isinstance(threshold, float) else 0.5
    expected = [
        [each for each in answer if each["score"] >= named.get(each["label"], usual)]
        for answer in everything
    ]
    assert given == expected
    assert first == [answer[:1] for answer in expected]
    assert 0 < sum(map(len, expected)) < 3 * len(TEXTS)


def test_an_adapter_decides_by_its_own(model: Path, tmp_path: Path) -> None:
    write(model, {"awful": 0.98, "fine": 0.01, "great": 0.01})
    for name in ("own", "none"):
        adapter = make_adapter(model, model / "adapters" / name, "SEQ_CLS", 1, LABELS)
        if name == "own":
            write(adapter, {"awful": 0.01, "fine": 0.98, "great": 0.01})
    base, own, none, everything = ask(
        model, {}, {"adapter_id": "own"}, {"adapter_id": "none"}, {"adapter_id": "none", **ALL}
    )
    assert "awful" not in {each["label"] for each in base}
    assert "fine" not in {each["label"] for each in own}
    assert none == [answer[0] for answer in everything]
    # The same adapter as an artefact of its own, with its base beside it.
    alone = shutil.copytree(model / "adapters" / "own", tmp_path / "alone")
    shutil.rmtree(model / "adapters")
    shutil.copytree(model, alone / "base")
    (merged,) = ask(alone, {})
    assert [each["label"] for each in merged] == [each["label"] for each in own]


@pytest.mark.parametrize(
    ("threshold", "problem_type"),
    [
        (0.3, None),
        ({"awful": 2}, None),
        ({"awful": 0.7, "fine": 0.3}, None),
        ({"terrible": 0.2}, "multi_label_classification"),
        ("often", "multi_label_classification"),
    ],
)
def test_a_model_whose_thresholds_cannot_be_read_does_not_start(
    model: Path, threshold: Any, problem_type: str | None
) -> None:
    write(model, threshold, problem_type)
    with pytest.raises(StartupError, match="threshold="):
        ask(model, {})


def test_over_http(model: Path, tmp_path: Path) -> None:
    write(model, {"awful": 1, "fine": 1, "great": 1}, "multi_label_classification")
    with Server(tmp_path) as server:
        asked = {"inputs": TEXTS[0], "parameters": {"apply_threshold": True}}
        assert server.invoke(asked).json() == []
        assert server.invoke({**asked, "inputs": TEXTS[:2]}).json() == [[], []]
        bad = {"apply_threshold": True, "return_all_scores": True}
        answer = server.invoke({"inputs": "x", "parameters": bad})
        assert answer.status_code == 400
        assert "exclude each other" in answer.text
        assert (
            server.invoke({"inputs": "x", "parameters": {"apply_threshold": 1}}).status_code == 400
        )
