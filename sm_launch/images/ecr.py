"""Amazon ECR: repositories as they ought to be, the log-in, what is there."""

from __future__ import annotations

import base64
import json
from typing import Any

from sm_launch.aws.clients import make_client
from sm_launch.images.checkout import IMAGES
from sm_launch.images.engine import docker
from sm_launch.images.sbom import TAG_SUFFIX

LIFECYCLE_POLICY = {
    "rules": [
        {
            "rulePriority": 1,
            "description": "untagged images go after two weeks",
            "selection": {
                "tagStatus": "untagged",
                "countType": "sinceImagePushed",
                "countUnit": "days",
                "countNumber": 14,
            },
            "action": {"type": "expire"},
        },
        {
            "rulePriority": 2,
            "description": "the newest 50 tagged images stay, each with its bill of materials",
            "selection": {
                "tagStatus": "tagged",
                "tagPatternList": ["*"],
                "countType": "imageCountMoreThan",
                "countNumber": 100,
            },
            "action": {"type": "expire"},
        },
    ]
}


def open_registry(region: str | None, repositories: list[str]) -> str:
    """Make the repositories that are missing, log in, and return the registry's host."""
    ecr = make_client("ecr", region)
    for name in repositories:
        ensure_repository(ecr, name)
    answer = ecr.get_authorization_token()["authorizationData"][0]
    user, _, password = base64.b64decode(answer["authorizationToken"]).decode().partition(":")
    host: str = answer["proxyEndpoint"].removeprefix("https://")
    docker("login", "--username", user, "--password-stdin", host, stdin=password)
    return host


def ensure_repository(ecr: Any, name: str) -> bool:
    """Make an ECR repository with scan on push, immutable tags and a lifecycle rule.

    Returns:
        Whether it was made now; an existing one is left as its owner set it.
    """
    try:
        ecr.create_repository(
            repositoryName=name,
            imageTagMutability="IMMUTABLE",
            imageScanningConfiguration={"scanOnPush": True},
            encryptionConfiguration={"encryptionType": "AES256"},
        )
    except ecr.exceptions.RepositoryAlreadyExistsException:
        return False
    ecr.put_lifecycle_policy(repositoryName=name, lifecyclePolicyText=json.dumps(LIFECYCLE_POLICY))
    return True


def images(region: str | None) -> list[dict[str, Any]]:
    """Images of ours, as `listing.list_images` tells them."""
    ecr = make_client("ecr", region)
    listed = []
    for image in IMAGES:
        name = f"sm-{image}"
        try:
            pages = list(ecr.get_paginator("describe_images").paginate(repositoryName=name))
        except ecr.exceptions.RepositoryNotFoundException:
            continue
        for detail in (detail for page in pages for detail in page["imageDetails"]):
            for tag in detail.get("imageTags", ["<none>"]):
                if tag.endswith(TAG_SUFFIX):
                    continue
                listed.append({"repository": name, "tag": tag, "digest": detail["imageDigest"],
                              "size": detail.get("imageSizeInBytes")})  # fmt: skip
    return listed
