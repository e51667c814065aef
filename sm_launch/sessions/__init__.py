"""Where jobs run. Every session has the SageMaker client's own method names and takes its requests.

A session knows request dicts and nothing else of the launcher.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import cast

from sm_launch.sessions.protocol import Session


def state_directory() -> Path:
    """Where local jobs and endpoints keep their state: SM_LAUNCH_HOME, else the XDG state home."""
    if home := os.environ.get("SM_LAUNCH_HOME"):
        return Path(home).expanduser().resolve()
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "sm-launch"


def sending_once(session: Session) -> Session:
    """The session, or another of the same target, that repeats no request by itself."""
    from sm_launch.sessions.aws import AwsSession

    return cast("Session", session.once()) if isinstance(session, AwsSession) else session


def open_session(target: str, *, region: str | None = None) -> Session:
    """The session of a target: `process`, `docker` or `sagemaker`."""
    if target == "process":
        from sm_launch.sessions.process import ProcessSession

        return ProcessSession(state_directory() / "process")
    if target == "docker":
        from sm_launch.sessions.docker import DockerSession

        return DockerSession(state_directory() / "docker")
    from sm_launch.sessions.aws import AwsSession

    # Its methods are boto3's own, found by name at run time.
    return cast("Session", AwsSession(region))
