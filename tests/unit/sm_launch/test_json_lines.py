"""Lines end at a newline alone: nothing that a text may hold loses a row."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sm_launch import cli, json_lines
from sm_launch.errors import UserInputError
from sm_launch.evaluation import Prediction, read_outputs, read_predictions, read_rows
from sm_launch.evaluation.judgements import Judgements, Verdict
from sm_launch.evaluation.report.sources import read_training_log
from sm_launch.evaluation.store import write_predictions

BREAKS = "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029\r\n\t\ufeff"
TEXTS = st.text(st.one_of(st.sampled_from(BREAKS), st.characters()), max_size=8)
PREDICTIONS = st.builds(
    Prediction,
    index=st.just(0),
    text=TEXTS,
    gold=TEXTS,
    predicted=TEXTS,
    scores=st.dictionaries(TEXTS, st.floats(0, 1), max_size=2),
    references=st.lists(TEXTS, max_size=2).map(tuple),
    slices=st.dictionaries(TEXTS, TEXTS, max_size=1),
    note=TEXTS,
)


@settings(max_examples=60)
@given(rows=st.lists(PREDICTIONS, min_size=1, max_size=4))
def test_no_character_loses_a_prediction(rows: list[Prediction], tmp_path_factory):
    path = tmp_path_factory.mktemp("p") / "predictions.jsonl"
    write_predictions(path, rows)
    assert read_predictions(path, rows=len(rows)) == rows


@settings(max_examples=60)
@given(texts=st.lists(TEXTS, min_size=1, max_size=4))
def test_no_character_loses_a_row_or_an_answer(texts: list[str], tmp_path_factory):
    folder = tmp_path_factory.mktemp("r")
    rows = [{"step": 1, "text": text} for text in texts]
    for name in ("rows.jsonl", "rows.jsonl.out"):
        (folder / name).write_text("".join(map(json_lines.dumps, rows)), encoding="utf-8")
    assert read_rows(folder / "rows.jsonl") == rows
    assert read_outputs(folder / "rows.jsonl.out", len(rows)) == rows
    assert read_training_log(folder / "rows.jsonl") == rows
    kept = Judgements(folder / "j")
    for number, text in enumerate(texts):
        kept.add(str(number).encode(), Verdict(1.0, text))
    again = Judgements(folder / "j")
    assert [again.find(str(n).encode()) for n in range(len(texts))] == [
        Verdict(1.0, text) for text in texts
    ]


def report(folder: Path, text: str, wrong: int, *, rows: int = 200) -> Path:
    """A report of `rows` rows of which the last `wrong` are wrong; row 3 has `text` everywhere."""
    folder.mkdir()
    problems = [
        Prediction(
            n,
            f"row {n} {text * (n == 3)}",
            f"ab{text}"[n % 2 :],
            "?" if n >= rows - wrong else f"ab{text}"[n % 2 :],
            slices={"s": text},
            note=text,
        )
        for n in range(rows)
    ]
    write_predictions(folder / "predictions.jsonl", problems)
    said = {"task": "text-classification", "rows": {"evaluated": rows}}
    (folder / "evaluation.json").write_text(json.dumps(said))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("character", BREAKS)
def test_no_character_opens_the_gate(character: str, tmp_path: Path, capsys):
    good, bad = report(tmp_path / "a", character, 5), report(tmp_path / "b", character, 65)
    command = ["compare", str(good), str(bad), "--output", str(tmp_path / "c")]
    assert cli.run([*command, "--fail-if-worse", "accuracy"]) == 3
    assert "200 rows" in capsys.readouterr().out


def test_predictions_that_end_short_are_refused(tmp_path: Path, capsys):
    good, bad = report(tmp_path / "a", "", 5), report(tmp_path / "b", "", 65)
    file = bad / "predictions.jsonl"
    whole = file.read_bytes()
    line = len(whole) - len(whole.splitlines(keepends=True)[-1])
    for end, problem in (
        (line, "holds 199 predictions, and its evaluation has 200"),
        (line + 10, "line 200: not JSON"),
        (len(whole) - 1, "no newline ends this line"),
    ):
        file.write_bytes(whole[:end])
        assert cli.run(["compare", str(good), str(bad), "--fail-if-worse", "accuracy"]) == 2
        assert problem in capsys.readouterr().err
    file.write_bytes(whole)
    (bad / "evaluation.json").write_text("{")
    assert cli.run(["compare", str(good), str(bad)]) == 2
    assert "evaluation.json: cannot be read" in capsys.readouterr().err


def test_outputs_that_end_short_are_refused(tmp_path: Path):
    path = tmp_path / "rows.jsonl.out"
    path.write_text('{"label": "a"}\n{"lab')
    with pytest.raises(UserInputError, match="ends short"):
        read_outputs(path, 2)
    path.write_bytes(b'{"label": "\xff"}\n')
    with pytest.raises(UserInputError, match="not UTF-8"):
        read_outputs(path, 1)


def test_a_file_under_way_is_read_up_to_the_cut(tmp_path: Path):
    path = tmp_path / "p.partial"
    path.write_bytes(b'{"a": 1}\n{"a": "\xe2\x80')
    assert json_lines.read_until_cut(path) == [{"a": 1}]
    path.write_bytes(b'{"a": 1}\n{"a": 2}')
    assert json_lines.read_until_cut(path) == [{"a": 1}]


def test_half_a_character_is_written_and_read():
    assert json.loads(json_lines.dumps({"a": "\ud800\u2028"})) == {"a": "\ud800\u2028"}
    json_lines.dumps({"a": "\ud800"}).encode()
