"""Push built images to ECR or any other registry, by a tag that says what is in them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from sm_launch.errors import LaunchError, UserInputError
from sm_launch.images import ecr, manifest
from sm_launch.images.building import PLATFORM
from sm_launch.images.checkout import (
    IMAGES,
    checked_flavor,
    checked_tag,
    default_tag,
    is_dirty,
    repository,
)
from sm_launch.images.engine import Image, docker, inspect, size
from sm_launch.images.sbom import is_of, push_sbom, sbom_path


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

    An image that the registry has already, under its tag, is not sent again, so that a push can be
    repeated after an interruption.

    Args:
        registry: `host[:port][/prefix]`; default: ECR of the account and region in use.
        allow_dirty: push although the working tree has changes.

    Raises:
        UserInputError: the tag is `latest`, the tree is dirty, or an image was not built.
        LaunchError: docker or the registry refused, the tag names another image there, or the image
            is of a kind that SageMaker does not take.
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
    materials = [sbom_path(root, image, tag, flavor) for image in images]
    return [
        _push(uri, registry.rstrip("/"), path) for uri, path in zip(local, materials, strict=True)
    ]


def _push(local: str, registry: str, materials: Path) -> Image:
    """Push one image, unless the registry has it: a tag is written once (ECR refuses more)."""
    uri = f"{registry}/{local}"
    name = local.partition(":")[0]
    inspected = inspect(local)
    _check_pushable(local, inspected)
    known = manifest.remote(uri)
    if known is not None and not known.is_of(inspected["Id"]):
        raise LaunchError(
            "the registry holds another image under this tag, and tags are written once",
            value=f"{uri} is {known.digest}",
            fix="use that one; or give the new build a tag of its own (TAG=…), or commit first",
        )
    if known is None:
        docker("tag", local, uri)
        docker("push", uri, show=True)
        known = manifest.remote(uri)
    if known is None:
        raise LaunchError("the registry does not know an image that was just pushed", value=uri)
    manifest.require_docker_v2(known.media_type, uri)
    listed = _push_materials(materials, uri, known, inspected["Id"])
    return Image(name, uri, f"{registry}/{name}@{known.digest}", size(local), sbom_digest=listed)


def _push_materials(path: Path, uri: str, image: manifest.Manifest, identity: str) -> str | None:
    """The bill of materials to the image's side, if the one that is here is this image's."""
    if not path.is_file() or not is_of(path, identity):
        has = "is of another build" if path.is_file() else "was not written"
        sys.stderr.write(f"no bill of materials is pushed with {uri}: {path.name} {has}\n")
        return None
    return push_sbom(path, uri, image)


def _check_pushable(local: str, inspected: dict[str, Any]) -> None:
    """What Docker says of the image before it is sent; older engines say less."""
    platform = f"{inspected['Os']}/{inspected['Architecture']}"
    if platform != PLATFORM:
        raise LaunchError(
            f"the image is for {platform}; SageMaker's instances for it are {PLATFORM}",
            value=local,
            fix="build it again with `make build`, which names the platform",
        )
    media_type = inspected.get("Descriptor", {}).get("mediaType")
    if media_type is not None:
        manifest.require_docker_v2(media_type, local)
