"""`data inspect` and `data validate`: they tell, and write nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sm_launch import cli
from sm_launch.data import DataConfig, inspect, validate
from sm_launch.errors import UserInputError
from sm_launch.progress import no_progress

from .conftest import Run


def test_columns_are_described(write, tmp_path: Path) -> None:
    rows = "".join(f"{n},some words {n},{'pos' if n % 4 else 'N/A'}\n" for n in range(40))
    write("r.csv", "id,text,label\n" + rows + "only one cell\n")
    (file,) = inspect(DataConfig(input="r.csv"), progress=no_progress, base_directory=tmp_path)
    assert (file.format, file.delimiter, file.rows, file.malformed) == ("csv", ",", 41, 1)
    by_name = {column.name: column for column in file.columns}
    assert by_name["label"].missing == 10
    assert by_name["label"].values == {"pos": 30}
    assert by_name["text"].values is None
    assert by_name["text"].longest == len("some words 39")
    assert "'pos' 30" in file.render()


def test_json_types_and_absent_keys_are_counted(write, tmp_path: Path) -> None:
    write("r.jsonl", '{"a": 1}\n{"a": "x", "b": null}\n{"b": [1]}\n')
    (file,) = inspect(DataConfig(input="r.jsonl"), progress=no_progress, base_directory=tmp_path)
    assert [(c.name, c.missing, c.kinds) for c in file.columns] == [
        ("a", 1, {"int": 1, "str": 1}),
        ("b", 2, {"list": 1}),
    ]


@pytest.mark.slow
def test_a_key_that_only_later_rows_have_is_missing_before(write, tmp_path: Path) -> None:
    write("r.jsonl", '{"a": 1}\n' * 9000 + '{"a": 1, "b": 2}\n')
    (file,) = inspect(DataConfig(input="r.jsonl"), progress=no_progress, base_directory=tmp_path)
    assert [(c.name, c.missing) for c in file.columns] == [("a", 0), ("b", 9000)]


def test_undecodable_bytes_can_be_printed(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_bytes(b"t\xe9xt,label\ncaf\xe9,a\n")
    (file,) = inspect(DataConfig(input="r.csv"), progress=no_progress, base_directory=tmp_path)
    file.render().encode("utf-8")


def test_validation_tells_what_preparation_would_do(
    run: Run, reviews: Path, tmp_path: Path
) -> None:
    config = DataConfig(input="reviews.csv")
    said = validate(config, tmp_path / "out", progress=no_progress, base_directory=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["reviews.csv"]
    done = run(input="reviews.csv").report
    assert said.splits == done.splits
    before = {path: path.stat().st_mtime_ns for path in done.output.rglob("*")}
    validate(config, tmp_path / "out", progress=no_progress, base_directory=tmp_path)
    assert {path: path.stat().st_mtime_ns for path in done.output.rglob("*")} == before


def test_validation_refuses_what_preparation_would(write, tmp_path: Path) -> None:
    write("r.csv", "text,label\na,x\nb,x\n")
    with pytest.raises(UserInputError, match="same label"):
        validate(
            DataConfig(input="r.csv"),
            tmp_path / "out",
            progress=no_progress,
            base_directory=tmp_path,
        )


def test_exit_codes_and_json(
    write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write("good.csv", "text,label\n" + "".join(f"t{n},{'ab'[n % 2]}\n" for n in range(40)))
    write("bad.csv", "text,label\na,x\nb,x\n")
    write("job.yaml", "name: j\ndata: {input: good.csv}\ntraining: {model: org/m}\n")
    assert cli.run(["data", "validate", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["valid"] is True
    assert cli.run(["data", "validate", "--json", "-s", "data.input=bad.csv"]) == 2
    assert json.loads(capsys.readouterr().out)["field"] == "data.columns.label"
    assert cli.run(["data", "inspect", "--json"]) == 0
    (file,) = json.loads(capsys.readouterr().out)
    assert file["rows"] == 40
    assert cli.run(["data", "inspect", "-s", "data.input=none.csv"]) == 2
