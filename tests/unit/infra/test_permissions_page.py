"""docs/howto/permissions.md names the action behind each call that the launcher makes."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import botocore.loaders
import pytest
from botocore import xform_name

ROOT = Path(__file__).resolve().parents[3]
# Service of botocore to the prefix of its actions.
SERVICES = {
    "sagemaker": "sagemaker", "sagemaker-runtime": "sagemaker", "s3": "s3", "iam": "iam",
    "logs": "logs", "cloudwatch": "cloudwatch", "sts": "sts", "ecr": "ecr", "kms": "kms",
    "cloudformation": "cloudformation", "application-autoscaling": "application-autoscaling",
    "secretsmanager": "secretsmanager", "service-quotas": "servicequotas", "pricing": "pricing",
    "ec2": "ec2", "scheduler": "scheduler",
}  # fmt: skip
# Service authorization reference: operations that another action allows.
ACTIONS = {
    "s3:ListObjectsV2": "s3:ListBucket",
    "s3:HeadBucket": "s3:ListBucket",
    "s3:HeadObject": "s3:GetObject",
    "s3:GetBucketEncryption": "s3:GetEncryptionConfiguration",
    "s3:GetPublicAccessBlock": "s3:GetBucketPublicAccessBlock",
}
# Names that several services have: what the launcher means.
MEANT = {"describe_images": "ecr", "list_tags_for_resource": "cloudwatch"}
OUR_OWN = {"list_images"}
# What calls with roles or tags, Application Auto Scaling's trials, boto3's transfers and Docker's
# push ask for besides.
INDIRECT = {
    "iam:PassRole", "iam:CreateServiceLinkedRole", "cloudwatch:TagResource",
    "application-autoscaling:TagResource", "sagemaker:UpdateInferenceComponentRuntimeConfig",
    "s3:AbortMultipartUpload", "ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage",
    "ecr:GetDownloadUrlForLayer", "ecr:InitiateLayerUpload", "ecr:UploadLayerPart",
    "ecr:CompleteLayerUpload", "ecr:PutImage",
    # What `stop` calls by the name of a kind.
    "sagemaker:StopProcessingJob", "sagemaker:DescribePipelineExecution",
    "sagemaker:StopPipelineExecution",
}  # fmt: skip


def names(path: Path) -> Iterator[str]:
    """What a module calls or hands on by name."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.FunctionDef) and path.name == "protocol.py":
            yield node.name


def mlflow_actions() -> set[str]:
    """What `register` calls of MLflow's client, and its waiting for a version to be there."""
    from mlflow.tracking import MlflowClient

    registry = ROOT / "sm_launch" / "evaluation" / "job" / "mlflow_registry.py"
    methods = {name for name in names(registry) if hasattr(MlflowClient, name) and "_" in name}
    actions = {name.title().replace("_", "") for name in {*methods, "get_model_version"}}
    return {f"sagemaker-mlflow:{action}" for action in actions}


@pytest.mark.slow  # it reads the models of fifteen services
def test_each_call_of_the_launcher_is_allowed() -> None:
    loader = botocore.loaders.create_loader()
    known: dict[str, dict[str, str]] = {}
    for service, prefix in SERVICES.items():
        for operation in loader.load_service_model(service, "service-2")["operations"]:
            known.setdefault(xform_name(operation), {})[service] = f"{prefix}:{operation}"
    local = (ROOT / "sm_launch" / "sessions" / name for name in ("process", "docker"))
    elsewhere = tuple(local)
    called = {
        name
        for path in (ROOT / "sm_launch").rglob("*.py")
        if not any(path.is_relative_to(folder) for folder in elsewhere)
        for name in names(path)
        if name in known and "_" in name
    } - OUR_OWN
    actions = {
        known[name][MEANT[name]] if name in MEANT else next(iter(known[name].values()))
        for name in called
    }
    assert len(actions) > 60
    page = (ROOT / "docs" / "howto" / "permissions.md").read_text(encoding="utf-8")
    told = set(re.findall(r"`([a-z0-9-]+:[A-Za-z]+)`", page))
    needed = {ACTIONS.get(action, action) for action in actions} | mlflow_actions()
    assert needed - told == set()
    assert told - needed - INDIRECT == set()
