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
    from sm_launch.api import (
        compare,
        delete,
        deploy,
        evaluate,
        inspect,
        invoke,
        load,
        prepare,
        preview,
        stop,
        train,
        upload,
        validate,
        weights,
    )
    from sm_launch.errors import LaunchError, QualityGateError, UserInputError

    __version__: str

__all__ = [
    "LaunchError",
    "QualityGateError",
    "UserInputError",
    "__version__",
    "compare",
    "delete",
    "deploy",
    "evaluate",
    "inspect",
    "invoke",
    "load",
    "prepare",
    "preview",
    "stop",
    "train",
    "upload",
    "validate",
    "weights",
]
_ERRORS = ("LaunchError", "QualityGateError", "UserInputError")


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version()
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("sm_launch.errors" if name in _ERRORS else "sm_launch.api"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("sm-launch")
    except PackageNotFoundError:  # a source tree that was never installed
        return "0.0.0"
