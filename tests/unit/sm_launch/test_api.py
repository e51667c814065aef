"""The Python API: names, laziness, and that what needs no server works."""

from __future__ import annotations

import inspect as python_inspect
import json
import subprocess
import sys
import typing
from pathlib import Path

import pytest

import sm_launch
from sm_launch import cli
from sm_launch.errors import UserInputError

FUNCTIONS = [n for n in sm_launch.__all__ if n[0].islower()]


def test_every_name_exists_is_typed_and_documented() -> None:
    for name in FUNCTIONS:
        function = getattr(sm_launch, name)
        assert function.__name__ == name
        assert function.__doc__, name
        hints = python_inspect.get_annotations(function)
        assert "return" in hints, name
        assert set(python_inspect.signature(function).parameters) <= set(hints), name
    assert typing.cast(str, sm_launch.__version__)
    with pytest.raises(AttributeError):
        sm_launch.trian  # noqa: B018
    assert set(FUNCTIONS) <= set(dir(sm_launch))


def test_names_are_those_of_commands() -> None:
    of_data = {"prepare", "prepare_on_sagemaker", "preview", "validate", "inspect", "upload"}
    commands = {name.rstrip("_") for name in set(FUNCTIONS) - of_data - {"load"}}
    in_modules = {"data", "images", "init", "completion"}
    assert commands == set(cli.COMMANDS) - in_modules


def test_importing_it_imports_nothing_heavy() -> None:
    code = (
        "import sys, sm_launch;"
        "print([m for m in ('boto3','pydantic','pyarrow','sklearn','rich','httpx') "
        "if m in sys.modules])"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert finished.stdout.strip() == "[]"


@pytest.mark.slow
def test_prepare_and_evaluate_without_a_server(tmp_path: Path) -> None:
    lines = [f"review {n},{'good' if n % 2 else 'bad'}" for n in range(60)]
    (tmp_path / "rows.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    job = tmp_path / "job.yaml"
    job.write_text("name: api\ndata: {input: rows.csv}\n")
    assert sm_launch.inspect(job)[0].rows == 60
    assert sm_launch.validate(job).rows_kept == 60
    assert not (tmp_path / "build" / "api" / "data").exists()
    report = sm_launch.prepare(job, overrides=["data.split.seed=1"])
    assert report.rows_kept == 60
    held_out = [json.loads(line) for line in report.splits["test"].path.open()]
    answers = tmp_path / "answers"
    answers.mkdir()
    (answers / "test.jsonl.out").write_text(
        "".join(json.dumps([{"label": "bad", "score": 1.0}]) + "\n" for _ in held_out)
    )
    result = sm_launch.evaluate(job, transform_output=str(answers))
    assert result.metrics is not None
    assert result.metrics.summary["accuracy"] == 0.5
    with pytest.raises(sm_launch.QualityGateError):
        sm_launch.evaluate(job, transform_output=str(answers), fail_under={"accuracy": 0.9})
    reports = tmp_path / "build" / "api" / "report"
    same = sm_launch.compare(reports, reports, output=tmp_path / "comparison")
    assert same.mcnemar.p_value == 1.0


def test_overrides_need_a_path() -> None:
    config = sm_launch.load.__globals__["JobConfig"](name="x")
    assert sm_launch.load(config) is config
    with pytest.raises(UserInputError, match="need the path"):
        sm_launch.load(config, ["name=y"])
