"""From raw rows to the channels train, validation and test: read, clean, split, write."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sm_launch.data.inspection import inspect
    from sm_launch.data.pipeline import prepare, validate
    from sm_launch.data.report import PreparationReport
    from sm_launch.job.data import DataConfig

__all__ = ["DataConfig", "PreparationReport", "inspect", "prepare", "validate"]
_HOMES = {
    "DataConfig": "sm_launch.job.data",
    "PreparationReport": "sm_launch.data.report",
    "inspect": "sm_launch.data.inspection",
    "prepare": "sm_launch.data.pipeline",
    "validate": "sm_launch.data.pipeline",
}


def __getattr__(name: str) -> Any:
    # On first use: a training job needs one small file of this room, and not pyarrow.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
