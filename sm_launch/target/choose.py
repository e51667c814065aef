"""Which target is used where the command does not say it."""

from __future__ import annotations

import os
from pathlib import Path

from sm_launch.job.config import JobConfig, Target


def resolve_target(config: JobConfig | None, requested: Target | None = None) -> Target:
    """The target to use: the option, else job.yaml, else what the machine allows.

    Without AWS credentials the default is `process`: no file of ours should surprise anybody with
    a bill. Looking for credentials reads the environment and files only, never the network.
    """
    named = requested or (config.target if config else None)
    if named:
        return named
    return "sagemaker" if aws_credentials_configured() else "process"


def explain_default(target: Target) -> str:
    """Why a target was taken that nobody has named, and how to say another one."""
    if target == "sagemaker":
        return "AWS credentials are configured; --target process stays on this machine"
    return "there are no AWS credentials; --target, or target in job.yaml, says another one"


def aws_credentials_configured() -> bool:
    """Whether the environment or the AWS files name credentials (nothing is contacted)."""
    names = ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE")
    if any(os.environ.get(name) for name in names):
        return True
    if os.environ.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"):
        return True
    default = Path.home() / ".aws" / "credentials"
    return Path(os.environ.get("AWS_SHARED_CREDENTIALS_FILE", default)).is_file()
