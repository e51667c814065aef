"""What the launcher installs is what it imports, and the other way round."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
# Distributions that are named otherwise than what they install.
NAMES = {
    "botocore": "boto3",
    "mlflow": "mlflow-skinny",
    "mypy-boto3-s3": "boto3-stubs",
    "sagemaker": "sagemaker-core",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}
# What is there wherever it is imported: a notebook's own, and in the training image Ray, whose
# script `serve` would take the place of ours in a development environment.
GIVEN = {"ipython", "ray"}


def declared(requirements: list[str]) -> set[str]:
    names = [re.split(r"[\[<>=~! ]", line, maxsplit=1)[0] for line in requirements]
    return {re.sub(r"[-_.]+", "-", name).lower() for name in names}


@cache
def imported() -> set[str]:
    """The distributions of all that any file of the launcher imports."""
    names = set()
    for path in (ROOT / "sm_launch").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.partition(".")[0])
    others = names - sys.stdlib_module_names - {"sm_launch"}
    return {NAMES.get(name, name) for name in declared(sorted(others))}


@pytest.mark.slow
def test_every_dependency_is_imported():
    assert declared(PROJECT["dependencies"]) - imported() == set()


def test_every_import_is_declared():
    extras = [line for group in EXTRAS.values() for line in group]
    assert imported() - GIVEN - declared(PROJECT["dependencies"] + extras) == set()
