"""What the parts of the process session share: settings, checks and the form of answers."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from operator import itemgetter
from pathlib import Path
from typing import Any

from sm_launch.errors import LaunchError
from sm_launch.job import limits
from sm_launch.sessions.process import environment
from sm_launch.sessions.process.store import State, Store
from sm_launch.sessions.validation import RequestValidator

Request = dict[str, Any]
Response = dict[str, Any]


def _train_command() -> list[str]:
    return [str(environment.scripts_directory() / "train")]


def _serve_command() -> list[str]:
    # Not the script `serve`: other packages have one of that name (Ray, BentoML), and the one that
    # was installed last stays.
    return [sys.executable, "-m", "sm_serve"]


@dataclass(frozen=True)
class Settings:
    """How this machine stands in for SageMaker.

    Attributes:
        train_command: what a training container runs.
        serve_command: what a serving container runs.
        training_grace: seconds between SIGTERM and SIGKILL of a training job.
        endpoint_grace: the same of a server.
        startup_timeout: seconds in which a server must become healthy, where the endpoint
            configuration does not say so (hosting: 8 minutes).
        invocation_timeout: seconds in which a server must answer.
    """

    train_command: list[str] = field(default_factory=_train_command)
    serve_command: list[str] = field(default_factory=_serve_command)
    training_grace: float = limits.TRAINING_GRACE_SECONDS
    endpoint_grace: float = 30
    startup_timeout: float = 480
    invocation_timeout: float = 60


class Machine:
    """This machine in SageMaker's place: what the parts of a session share.

    Args:
        home: where jobs, models and endpoints keep their state.
        settings: commands and time limits, where they are to differ from SageMaker's.

    Attributes:
        several_hosts: whether a training job may have more than one.
    """

    several_hosts: bool = False

    def __init__(self, home: Path, settings: Settings | None = None) -> None:
        self.store = Store(home.expanduser().resolve())
        self.settings = settings or Settings()

    @cached_property
    def validator(self) -> RequestValidator:
        """Knows what SageMaker takes."""
        return RequestValidator("sagemaker")

    @cached_property
    def runtime_validator(self) -> RequestValidator:
        """Knows what its endpoints take."""
        return RequestValidator("sagemaker-runtime")

    def require(self, command: list[str], images: Iterable[str], operation: str) -> None:
        """Refuse early what could not be started here.

        Args:
            command: the program that is to run.
            images: those that the request names; processes have none.
            operation: what was asked for.

        Raises:
            LaunchError: something is not installed.
        """
        require_command(command, operation)


# As the service: whoever reads one page only shall notice here.
_PAGE_SIZE = 10


def require_command(command: list[str], operation: str) -> None:
    """Refuse early when the program that is to run is not installed.

    Raises:
        LaunchError: there is no such file.
    """
    program = Path(command[0])
    if program.is_absolute() and not os.access(program, os.X_OK):
        raise LaunchError(
            f"{operation}: the program {program.name!r} is not installed in this environment",
            value=str(program),
            fix="install the container's package (pip install -e containers/train for train, "
            "containers/serve for serve), or run `make setup`",
        )


def described(state: State) -> Response:
    """State as a response: times become datetimes, keys of our own (lower case) stay inside."""
    return {key: _decoded(key, value) for key, value in state.items() if key[0].isupper()}


def _decoded(key: str, value: Any) -> Any:
    if isinstance(value, dict):
        return {inner: _decoded(inner, member) for inner, member in value.items()}
    if isinstance(value, list):
        return [_decoded("", member) for member in value]
    if key.endswith(("Time", "Timestamp")) and isinstance(value, int | float):
        return datetime.fromtimestamp(value, UTC)
    return value


def page(
    items: list[Response],
    request: Request,
    *,
    name_key: str,
    status_key: str | None = None,
    sort_key: Callable[[Response], Any] | None = None,
) -> tuple[list[Response], dict[str, str]]:
    """Filter, sort and cut summaries as the List operations do.

    Args:
        items: every summary.
        request: of the List operation.
        name_key: the member with the name.
        status_key: the member with the status, where the operation has one.
        sort_key: what to sort by, in place of the member that SortBy means.

    Returns:
        The page, and `{"NextToken": …}` if there are more.
    """
    chosen = [item for item in items if _matches(item, request, name_key, status_key)]
    keys = {"Name": name_key, "Status": status_key, "CreationTime": "CreationTime"}
    key = sort_key or itemgetter(keys.get(request.get("SortBy", "")) or "CreationTime")
    descending = request.get("SortOrder", "Descending") == "Descending"
    chosen.sort(key=lambda item: (key(item), item[name_key]), reverse=descending)
    start = int(request.get("NextToken") or 0)
    end = start + request.get("MaxResults", _PAGE_SIZE)
    return chosen[start:end], {"NextToken": str(end)} if end < len(chosen) else {}


def _matches(item: Response, request: Request, name_key: str, status_key: str | None) -> bool:
    if request.get("NameContains", "").lower() not in item[name_key].lower():
        return False
    if status_key and request.get("StatusEquals", item[status_key]) != item[status_key]:
        return False
    for key in ("CreationTime", "LastModifiedTime"):
        at = item.get(key, item["CreationTime"])
        if f"{key}After" in request and not at > request[f"{key}After"]:
            return False
        if f"{key}Before" in request and not at < request[f"{key}Before"]:
            return False
    return True
