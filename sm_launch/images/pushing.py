"""Push built images to ECR or any other registry, by a tag that says what is in them."""

from __future__ import annotations

from pathlib import Path

from sm_launch.errors import LaunchError, UserInputError
from sm_launch.images import ecr
from sm_launch.images.checkout import (
    IMAGES,
    checked_flavor,
    checked_tag,
    default_tag,
    is_dirty,
    repository,
)
from sm_launch.images.engine import Image, docker, inspect, size


def push(
    flavor: str,
    tag: str | None = None,
    *,
    registry: str | None = None,
    region: str | None = None,
    allow_dirty: bool = False,
    root: Path | None = None,
    images: tuple[str, ...] = IMAGES,
) -> list[Image]:
    """Push the built images, and say by which digest they can be pulled.

    Args:
        registry: `host[:port][/prefix]`; default: ECR of the account and region in use.
        allow_dirty: push although the working tree has changes.

    Raises:
        UserInputError: the tag is `latest`, the tree is dirty, or an image was not built.
        LaunchError: docker or the registry refused.
    """
    root = root or repository()
    tag = checked_tag(tag or default_tag(root))
    checked_flavor(flavor)
    if not allow_dirty and is_dirty(root):
        raise UserInputError(
            "the working tree has changes: the tag would not say what is in the image",
            field="tag",
            value=tag,
            fix="commit them, or say --allow-dirty",
        )
    local = [f"sm-{image}:{tag}-{flavor}" for image in images]
    for uri in local:
        if not inspect(uri):
            raise UserInputError(
                "this image has not been built",
                field="tag",
                value=uri,
                fix=f"run `make build FLAVOR={flavor} TAG={tag}` first",
            )
    if registry is None:
        registry = ecr.open_registry(region, [uri.partition(":")[0] for uri in local])
    return [_push(uri, registry.rstrip("/")) for uri in local]


def _push(local: str, registry: str) -> Image:
    uri = f"{registry}/{local}"
    name = local.partition(":")[0]
    docker("tag", local, uri)
    docker("push", uri, show=True)
    digests: list[str] = inspect(uri).get("RepoDigests", [])
    ours = [digest for digest in digests if digest.startswith(f"{registry}/{name}@")]
    if not ours:
        raise LaunchError("the registry named no digest for a pushed image", value=uri)
    return Image(name, uri, ours[-1], size(uri))
