"""The CloudFormation templates: fresh, valid, and no wider than they must be."""

from __future__ import annotations

import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from sm_launch.account import policies

ROOT = Path(__file__).resolve().parents[3]
INFRA = ROOT / "infra"
TEMPLATES = ["access.yaml", "pipeline.yaml"]


class Loader(yaml.SafeLoader):
    """Reads `!Ref x` and its like as {"!Ref": "x"}."""


def _tagged(loader: Loader, tag: str, node: yaml.Node) -> dict[str, Any]:
    if isinstance(node, yaml.ScalarNode):
        return {f"!{tag}": loader.construct_scalar(node)}
    return {f"!{tag}": loader.construct_sequence(node, deep=True)}


Loader.add_multi_constructor("!", _tagged)


def load(name: str) -> dict[str, Any]:
    return yaml.load((INFRA / name).read_text(), Loader)


def statements(value: Any) -> Iterator[dict[str, Any]]:
    """Every statement that allows something to a role."""
    if isinstance(value, dict):
        if value.get("Effect") == "Allow" and "Principal" not in value:
            yield value
        for inner in value.values():
            yield from statements(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from statements(inner)


def test_the_access_template_is_fresh():
    module = runpy.run_path(str(INFRA / "generate_access.py"))
    assert module["TARGET"].read_text() == module["render"](), (
        "run .venv/bin/python infra/generate_access.py"
    )


def test_every_name_of_the_access_template_is_filled_in():
    def literals(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            for key, inner in value.items():
                yield from () if key == "Fn::Sub" else literals(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from literals(inner)
        else:
            yield str(value)

    assert not [text for text in literals(load("access.yaml")) if "${" in text]


# Actions that IAM knows no resources of, or whose resources are known when they are asked for.
WITHOUT_RESOURCE = {
    "cloudwatch:PutMetricData",
    *policies._ANYWHERE,
    *(f"sagemaker:List{kind}" for kind in policies._LISTS),
}


@pytest.mark.parametrize(("name", "count"), [("access.yaml", 38), ("pipeline.yaml", 11)])
def test_the_roles_have_least_privilege(name, count):
    allowed = list(statements(load(name)["Resources"]))
    assert len(allowed) == count
    everywhere = {action for s in allowed if s["Resource"] == "*" for action in s["Action"]}
    assert everywhere <= WITHOUT_RESOURCE
    assert not [action for s in allowed for action in s["Action"] if "*" in action]


def test_the_build_may_not_change_repositories_or_roles():
    allowed = list(statements(load("pipeline.yaml")["Resources"]))
    assert [s for s in allowed if "ecr:PutImage" in s["Action"]]
    # Beside the cache of Docker Hub's images, whose repositories ECR makes as they are asked for.
    cached = [s for s in allowed if "ecr:BatchImportUpstreamImage" in s["Action"]]
    assert [str(s["Resource"]["!Sub"]).endswith("${Project}-hub/*") for s in cached] == [True]
    actions = {a for s in allowed if s not in cached for a in s["Action"]}
    assert not [a for a in actions if a.startswith(("iam:", "ecr:Create", "ecr:Delete"))]


def test_the_build_pushes_to_the_repositories_of_setup():
    from sm_launch.account.access import REPOSITORIES

    (push,) = [
        s for s in statements(load("pipeline.yaml")["Resources"]) if "ecr:PutImage" in s["Action"]
    ]
    named = [r["!Sub"].rpartition("/")[2] for r in push["Resource"] if "!Sub" in r]
    assert named == list(REPOSITORIES)


@pytest.mark.slow
@pytest.mark.parametrize("name", TEMPLATES)
def test_cloudformation_accepts_it(name):
    from cfnlint.api import ManualArgs, lint

    # A few young regions have no CodeBuild.
    matches = lint(
        (INFRA / name).read_text(), config=ManualArgs(regions=["us-east-1", "eu-central-1"])
    )
    assert [f"{match.rule.id}: {match.message}" for match in matches] == []
