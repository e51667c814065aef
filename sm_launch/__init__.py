"""Fine-tune and serve models on SageMaker, in local Docker or in plain processes.

The package is the launcher: it prepares data, builds the real SageMaker requests and hands them to
a session (AWS, Docker or processes). Its commands are functions too, under the same names:

    from sm_launch import deploy, evaluate, prepare, train

They are imported on first use, so that the command line answers at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sm_launch.api.account import doctor, gc, list_, logs, setup, status
    from sm_launch.api.data import inspect, prepare, prepare_on_sagemaker, preview, upload, validate
    from sm_launch.api.endpoints import (
        alarms,
        chat,
        compare,
        dashboard,
        delete,
        deploy,
        evaluate,
        invoke,
        monitor,
        weights,
    )
    from sm_launch.api.jobs import estimate, optimize, reproduce, stop, sweep, train, transform
    from sm_launch.api.opening import load
    from sm_launch.api.registry import pipeline, register
    from sm_launch.api.schedules import schedule
    from sm_launch.errors import LaunchError, QualityGateError, UserInputError

    __version__: str

__all__ = [
    "LaunchError",
    "QualityGateError",
    "UserInputError",
    "__version__",
    "alarms",
    "chat",
    "compare",
    "dashboard",
    "delete",
    "deploy",
    "doctor",
    "estimate",
    "evaluate",
    "gc",
    "inspect",
    "invoke",
    "list_",
    "load",
    "logs",
    "monitor",
    "optimize",
    "pipeline",
    "prepare",
    "prepare_on_sagemaker",
    "preview",
    "register",
    "reproduce",
    "schedule",
    "setup",
    "status",
    "stop",
    "sweep",
    "train",
    "transform",
    "upload",
    "validate",
    "weights",
]
_MODULES = (
    "api.account",
    "api.data",
    "api.endpoints",
    "api.jobs",
    "api.opening",
    "api.registry",
    "api.schedules",
    "errors",
)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("sm_launch.version").launcher_version()
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    modules = (import_module(f"sm_launch.{module}") for module in _MODULES)
    return next(getattr(module, name) for module in modules if hasattr(module, name))


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
