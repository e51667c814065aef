"""JSON arrays: the same rows as json.load, whatever the blocks cut; and flat memory."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sm_launch.data import json_array
from sm_launch.errors import UserInputError

VALUES = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.slow
@settings(max_examples=200)
@given(st.lists(VALUES, max_size=6), st.integers(1, 40), st.sampled_from([None, 1]))
def test_it_reads_what_json_reads(values: list[object], block: int, indent: int | None) -> None:
    text = json.dumps(values, indent=indent, ensure_ascii=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_array, "BLOCK_CHARACTERS", block)
        assert list(json_array.elements(io.StringIO(f"\ufeff \n{text}\n"))) == values


@pytest.mark.parametrize("block", [1, 3, 1000])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"a": 1},\n{"a": 2', "line 2"),
        ('[{"a": 1},\n{"a" 2}]', "Expecting ':' delimiter (line 2)"),
        ("[1, 2", "it ends inside the array (line 1)"),
        ("[1 2]", "expecting ',' or ']' (line 1)"),
        ("[1,\n]", "Expecting value (line 2)"),
        ("[1]\n{}", "there is more behind the array (line 2)"),
        ("[", "(line 1)"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(
    text: str, message: str, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_array, "BLOCK_CHARACTERS", block)
    with pytest.raises(ValueError) as caught:
        list(json_array.elements(io.StringIO(text)))
    assert message in str(caught.value)


def test_an_early_mistake_is_told_without_reading_on() -> None:
    file = io.StringIO('[{"a" 1}, ' + '{"a": 1}, ' * 1_000_000)
    with pytest.raises(ValueError, match="line 1"):
        next(json_array.elements(file))
    assert file.tell() <= 2 * json_array.BLOCK_CHARACTERS


def test_prepare_reads_an_array(write, run) -> None:
    rows = [{"text": f"text {n}", "label": "ab"[n % 2]} for n in range(40)]
    done = run(input=str(write("rows.json", json.dumps(rows, indent=1))))
    assert {row["text"] for row in done.all_rows} == {row["text"] for row in rows}
    with pytest.raises(UserInputError, match=r"not valid JSON: .*line 162"):
        run(input=str(write("bad.json", json.dumps(rows, indent=1)[:-2] + "\n}")))


CODE = """
import resource, sys
from sm_launch.data.json_array import elements
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with open(sys.argv[1], encoding="utf-8") as file:
    count = sum(1 for _ in elements(file))
print(count, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.slow
def test_a_large_array_takes_little_memory(tmp_path: Path) -> None:
    path, row = tmp_path / "large.json", json.dumps({"text": "word " * 200, "label": "a"})
    with path.open("w") as file:
        file.write("[")
        for _ in range(300):
            file.write(f"{row},\n" * 1000)
        file.write(f"{row}]")
    assert path.stat().st_size > 300e6
    command = [sys.executable, "-c", CODE, str(path)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    path.unlink()
    assert int(told[0]) == 300_001
    assert float(told[1]) < 50  # MiB
