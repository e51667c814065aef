"""SageMaker's contract on this machine: `train` and `serve` as processes under a private base dir.

`ProcessSession` is the embedded default target. It is imported on first use, because the supervisor
process of every job imports this package too and must start quickly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sm_launch.sessions.process.session import ProcessSession

__all__ = ["ProcessSession"]


def __getattr__(name: str) -> Any:
    if name == "ProcessSession":
        from sm_launch.sessions.process.session import ProcessSession

        return ProcessSession
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
