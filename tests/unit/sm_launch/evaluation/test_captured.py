"""Captured traffic as rows: requests of every form, labels that came later, others' answers."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sm_launch.errors import UserInputError
from sm_launch.evaluation import make_task
from sm_launch.evaluation.job.captured import Traffic, check, read, read_truth
from sm_launch.evaluation.job.request import Request
from sm_launch.evaluation.task import Task

JSON, LINES = "application/json", "application/jsonlines"


def scores(**values: float) -> list[dict[str, Any]]:
    return [{"label": label, "score": score} for label, score in values.items()]


def event(number: int, kind: str, asked: Any, answered: Any, name: str = "") -> str:
    sides = {
        side: {"observedContentType": kind, "data": body, "encoding": "JSON",
               "mode": side.removeprefix("endpoint").upper()}
        for side, body in (("endpointInput", asked), ("endpointOutput", answered))
        if body is not None
    }  # fmt: skip
    told = {"eventId": f"e{number}", "inferenceTime": f"2026-11-30T10:00:{number:02d}Z"}
    return json.dumps(
        {"captureData": sides, "eventMetadata": told | ({"inferenceId": name} if name else {})}
    )


class Place:
    """A context whose endpoint has captured these lines, a variant each list."""

    def __init__(self, root: Path, *variants: list[str]) -> None:
        names = [f"v{i}" for i in range(len(variants))]
        for name, lines in zip(names, variants, strict=True):
            folder = root / "live" / name / "2026/11/30/10"
            folder.mkdir(parents=True)
            (folder / "00-00-1-a.jsonl").write_text("\n".join(lines))
        self.session = SimpleNamespace(describe_endpoint=lambda EndpointName: {
            "DataCaptureConfig": {"DestinationS3Uri": root.as_uri()},
            "ProductionVariants": [{"VariantName": name} for name in names],
        })  # fmt: skip
        self.clients = None


def traffic(place: Place, task: Task, truth: dict[str, Any] | None, newest: int = 100) -> Traffic:
    return read(place, "live", task, newest, truth)  # type: ignore[arg-type]


ONE, TWO = scores(pos=0.9, neg=0.1), scores(neg=0.8, pos=0.2)
BODIES = [
    event(1, JSON, '{"inputs": "a"}', json.dumps([ONE]), "order-1"),
    event(2, JSON, '{"inputs": ["b", "c"], "parameters": {"top_k": 2}}', json.dumps([ONE, TWO])),
    event(3, LINES, '{"inputs": "d"}\n{"text": "e"}', f"{json.dumps(ONE)}\n{json.dumps(TWO)}"),
    event(4, JSON, '{"inputs": "f"}', json.dumps(TWO[0])),
]
SPOILT = [
    "half a line",
    event(5, JSON, '{"inputs": "g"}', None),
    event(6, JSON, '{"inputs": ["h", "i"]}', json.dumps([ONE])),
]


def test_every_form_of_request_is_a_row(tmp_path: Path) -> None:
    task = make_task("text-classification")
    seen = traffic(Place(tmp_path, BODIES, SPOILT), task, None)
    rows = {row["text"]: row["label"] for row in seen.rows}
    assert rows == {"a": "pos", "b": "pos", "c": "neg", "d": "pos", "e": "neg", "f": "neg"}
    told = "; ".join(seen.notes)
    assert "6 rows of 5 exchanges" in told
    assert "line that is no whole exchange: 2" in told
    assert "answer that does not fit its request: 1" in told


def test_the_newest_come_first(tmp_path: Path) -> None:
    seen = traffic(Place(tmp_path, BODIES[::2], BODIES[1::2]), make_task("text-classification"),
                   None, newest=2)  # fmt: skip
    assert [row["text"] for row in seen.rows] == ["f", "d", "e"]


def truth_line(name: str, data: str, encoding: str = "CSV") -> str:
    return json.dumps({
        "groundTruthData": {"data": data, "encoding": encoding},
        "eventMetadata": {"eventId": name}, "eventVersion": "0",
    })  # fmt: skip


def test_labels_come_by_either_id_and_in_every_form(tmp_path: Path) -> None:
    lines = [
        truth_line("order-1", "neg"),
        truth_line("e2", "pos,neg"),
        truth_line("e3", '["neg", "neg"]', "JSON"),
        truth_line("e4", base64.b64encode(b"neg").decode(), "BASE64"),
        json.dumps({"eventId": "e6", "label": "pos"}),
        '{"eventId": "no label"}', "no json", "[1]",
    ]  # fmt: skip
    folder = tmp_path / "truth/2026/11/30/11"
    folder.mkdir(parents=True)
    (folder / "a.jsonl").write_text("\n".join(lines))
    truth, odd = read_truth(tmp_path / "truth")
    assert odd == 3
    seen = traffic(Place(tmp_path, BODIES, SPOILT), make_task("text-classification"), truth)
    rows = {row["text"]: row["label"] for row in seen.rows}
    assert rows == {"a": "neg", "b": "pos", "c": "neg", "d": "neg", "e": "neg", "f": "neg"}
    del truth["e4"]
    truth["e2"] = ["pos"]
    told = "; ".join(traffic(Place(tmp_path / "b", BODIES), make_task("text-classification"),
                             truth).notes)  # fmt: skip
    assert "exchange without a label: 1" in told
    assert "label that is not one for each input of its request: 1" in told


TASKS = {
    "multi-label-classification": (
        {"inputs": "a"}, [scores(x=0.9, y=0.7, z=0.1)], {"text": "a", "label": ["x", "y"]}),
    "text-regression": ({"inputs": "a"}, [{"label": "LABEL_0", "score": 2.5}],
                        {"text": "a", "label": 2.5}),
    "question-answering": (
        {"inputs": {"question": "who", "context": "me"}}, {"answer": "me", "score": 0.9},
        {"question": "who", "context": "me", "answers": ["me"]}),
    "text-generation": ({"inputs": "a"}, [{"generated_text": "b"}],
                        {"prompt": "a", "completion": "b"}),
    "text2text-generation": ({"inputs": ["a"]}, [{"summary_text": "b"}],
                             {"source": "a", "target": "b"}),
}  # fmt: skip


@pytest.mark.parametrize("name", TASKS)
def test_answers_of_every_task_are_labels(name: str, tmp_path: Path) -> None:
    asked, answered, row = TASKS[name]
    lines = [event(1, JSON, json.dumps(asked), json.dumps(answered))]
    task = make_task(name)
    seen = traffic(Place(tmp_path, lines), task, None)
    assert seen.rows == [row]
    example = task.example(0, row)
    assert task.predict(example, seen.answers[0]).correct or name == "text-regression"


def test_chats_are_prompts_with_their_answer(tmp_path: Path) -> None:
    chat = [{"role": "user", "content": "hello"}]
    answer = {"choices": [{"message": {"role": "assistant", "content": "hi"}}]}
    lines = [event(1, JSON, json.dumps({"messages": chat}), json.dumps(answer))]
    seen = traffic(Place(tmp_path, lines), make_task("text-generation"), None)
    assert seen.rows == [{"prompt": chat, "completion": "hi"}]


def test_pairs_keep_both_texts(tmp_path: Path) -> None:
    task = make_task("text-classification", text_column="premise", pair_column="hypothesis")
    lines = [event(1, JSON, '{"inputs": {"text": "a", "text_pair": "b"}}', json.dumps([ONE]))]
    seen = traffic(Place(tmp_path, lines), task, None)
    assert seen.rows == [{"premise": "a", "hypothesis": "b", "label": "pos"}]


def test_what_cannot_be_measured_is_refused(tmp_path: Path) -> None:
    place = Place(tmp_path, SPOILT)
    with pytest.raises(UserInputError, match="not measured for the task embedding"):
        traffic(place, make_task("embedding"), None)
    with pytest.raises(UserInputError, match=r"nothing to measure in 1 captured exchanges \(line"):
        traffic(place, make_task("text-classification"), None)
    (tmp_path / "truth.jsonl").write_text("{}\n")
    with pytest.raises(UserInputError, match="none of 1 lines in 1 files is a label"):
        read_truth(tmp_path / "truth.jsonl")


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        (Request(captured="live"), "nothing to hold the captured answers against"),
        (Request(captured="live", labels="x", data="rows.jsonl"), "brings its own rows"),
        (Request(captured="live", labels="x", newest=0), "1 or more"),
        (Request(captured="live", labels="x", load=True), "sends requests"),
        (Request(labels="x"), "goes with --captured alone"),
        (Request(newest=5), "goes with --captured alone"),
    ],
)
def test_contradictions_are_refused(request_: Request, told: str) -> None:
    with pytest.raises(UserInputError, match=told):
        check(request_)
