"""docs/reference is what the code says, and every key of job.yaml is told there."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from jsonschema import Draft202012Validator

from sm_launch import cli
from sm_launch.job.file import read_document

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def reference() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "infra" / "generate_reference.py"))


@pytest.fixture(scope="module")
def schema(reference: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = reference["job_schema"]()
    return made


def test_the_pages_and_the_schema_are_what_the_code_says(reference: dict[str, Any]) -> None:
    stale = [
        str(path.relative_to(ROOT))
        for path, text in reference["render"]().items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]
    assert stale == [], "run `make reference`, or infra/generate_reference.py"


def test_every_key_of_job_yaml_is_shown_with_its_meaning(
    reference: dict[str, Any], schema: dict[str, Any]
) -> None:
    page = (ROOT / "docs" / "reference" / "job.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([^`]+)` \|.*\| ((?:\\\||[^|])*) \|$", page, re.MULTILINE))
    names = [key.name for key in reference["keys"](schema, schema)]
    assert len(names) > 150
    assert [name for name in names if not rows.get(name)] == []


def test_the_schema_takes_what_job_yaml_takes(schema: dict[str, Any]) -> None:
    valid = Draft202012Validator(schema).is_valid
    good: list[Any] = [
        {"name": "a", "data": {"input": "x.csv", "labels": [0, 1]}, "evaluation": None},
        {"name": "a", "training": {"method": "sft", "hyperparameters": {"max_steps": 1}}},
    ]
    bad: list[Any] = [
        {"name": "a", "training": {"method": "stf"}},
        {"name": "a", "training": {"method": "sft", "hyperparameters": {"max_length": "long"}}},
        {"name": "a", "training": {"hyperparameters": {"num_labels": "many"}}},
        {"name": "a", "trainning": {}},
        {"training": {}},
        {"name": "a", "directory": "/x"},
    ]
    assert [document for document in good if not valid(document)] == []
    assert [document for document in bad if valid(document)] == []


@pytest.mark.parametrize("method", ["text-classification", "sft"])
def test_init_names_the_schema_which_takes_what_it_wrote(
    method: str, schema: dict[str, Any], tmp_path: Path
) -> None:
    written = tmp_path / "job.yaml"
    assert cli.run(["init", "--method", method, "--output", str(written)]) == 0
    first = written.read_text(encoding="utf-8").partition("\n")[0]
    location = first.removeprefix("# yaml-language-server: $schema=")
    assert json.loads(Path(unquote(urlsplit(location).path)).read_text("utf-8")) == schema
    assert list(Draft202012Validator(schema).iter_errors(read_document(written))) == []


def test_a_key_without_a_meaning_is_found(reference: dict[str, Any]) -> None:
    schema = {
        "properties": {
            "a": {"$ref": "#/$defs/A"},
            "b": {"type": "array", "items": {"$ref": "#/A"}},
        },
        "$defs": {"A": {"properties": {"x": {"type": "string"}}}},
    }
    names = [key.name for key in reference["keys"](schema, schema)]
    assert names == ["a", "b", "a.x", "b[].x"]
