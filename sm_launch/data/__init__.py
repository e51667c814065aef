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
    "DataConfig": "config",
    "PreparationReport": "report",
    "inspect": "inspection",
    "prepare": "pipeline",
    "validate": "pipeline",
}


def __getattr__(name: str) -> Any:
    # On first use: job.yaml's types live here too, and every command reads those.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
