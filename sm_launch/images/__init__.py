"""Container images: build both, push them to ECR or any registry, list what is there."""

from __future__ import annotations

from sm_launch.images.audit import audit
from sm_launch.images.bases import base_image, pin_bases
from sm_launch.images.building import TORCH_CPU_INDEX, build
from sm_launch.images.checkout import (
    FLAVORS,
    IMAGES,
    checked_tag,
    default_tag,
    is_dirty,
    locked_versions,
    repository,
)
from sm_launch.images.engine import Image
from sm_launch.images.flash_attn import build_wheel
from sm_launch.images.listing import list_images
from sm_launch.images.pushing import push
from sm_launch.images.scanning import scan

__all__ = [
    "FLAVORS",
    "IMAGES",
    "TORCH_CPU_INDEX",
    "Image",
    "audit",
    "base_image",
    "build",
    "build_wheel",
    "checked_tag",
    "default_tag",
    "is_dirty",
    "list_images",
    "locked_versions",
    "pin_bases",
    "push",
    "repository",
    "scan",
]
