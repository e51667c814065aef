"""What the parts of the process session share: settings, checks, records and listings."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from sm_launch.errors import LaunchError
from sm_launch.job import limits
from sm_launch.redaction import redact
from sm_launch.sessions.errors import ServiceError
from sm_launch.sessions.process import environment
from sm_launch.sessions.process.artefacts import last_lines
from sm_launch.sessions.process.children import kill_processes_below
from sm_launch.sessions.process.store import Record, State, Store
from sm_launch.sessions.validation import RequestValidator

Request = dict[str, Any]
Response = dict[str, Any]

ARN_PREFIX = "arn:aws:sagemaker:local:000000000000"
"""What the ARNs of local resources begin with."""


def _console_script(name: str) -> list[str]:
    return [str(environment.scripts_directory() / name)]


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

    train_command: list[str] = field(default_factory=lambda: _console_script("train"))
    serve_command: list[str] = field(default_factory=lambda: _console_script("serve"))
    training_grace: float = limits.TRAINING_GRACE_SECONDS
    endpoint_grace: float = 30
    startup_timeout: float = 480
    invocation_timeout: float = 60


class SessionBase:
    """Validation, records and listings."""

    seconds_between_looks: float = 0.3
    log_lag_seconds: float = 0.0

    def __init__(self, home: Path, settings: Settings | None = None) -> None:
        self._store = Store(home.expanduser().resolve())
        self._settings = settings or Settings()

    @cached_property
    def _validator(self) -> RequestValidator:
        return RequestValidator("sagemaker")

    def _request_file(self, request: Request, **more: Any) -> State:
        """What request.json holds: all that a supervisor needs to know."""
        return {"request": request, "settings": asdict(self._settings), **more}

    def _find(
        self, kind: str, name: str, *, status_key: str, failure: Callable[[State], State]
    ) -> tuple[Record, State] | None:
        """A record with its state, which says Failed if the supervisor has died."""
        record = self._store.find(kind, name)
        if record is None:
            return None
        try:
            return record, _living_state(record, status_key, failure)
        except FileNotFoundError:  # removed meanwhile
            return None


def _living_state(record: Record, status_key: str, failure: Callable[[State], State]) -> State:
    state = record.read("state")
    if state[status_key] in _SETTLED:
        return state
    lock = record.lock()
    if lock is None:
        return state
    try:
        # The last words of a supervisor that ended in between.
        state = record.read("state")
        if state[status_key] in _SETTLED:
            return state
        kill_processes_below(record.path)
        changes = failure(state)
        words = last_lines(record.path / "supervisor.log", 300)
        if words:
            changes["FailureReason"] += f" Its last words: {redact(words)}"
        return record.update(**changes)
    finally:
        os.close(lock)


# As the service: whoever reads one page only shall notice here.
_PAGE_SIZE = 10
_SETTLED = frozenset({"Completed", "Failed", "Stopped"})


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


def arn(resource: str, name: str) -> str:
    """The ARN of a local resource, for example `arn("training-job", name)`."""
    return f"{ARN_PREFIX}:{resource}/{name}"


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
    order: str = "Descending",
) -> tuple[list[Response], dict[str, str]]:
    """Filter, sort and cut summaries as the List operations do.

    Returns:
        The page, and `{"NextToken": …}` if there are more.
    """
    chosen = [item for item in items if _matches(item, request, name_key, status_key)]
    keys = {"Name": name_key, "Status": status_key, "CreationTime": "CreationTime"}
    sort_key = keys.get(request.get("SortBy", "CreationTime")) or "CreationTime"
    descending = request.get("SortOrder", order) == "Descending"
    chosen.sort(key=lambda item: (item[sort_key], item[name_key]), reverse=descending)
    start = int(request.get("NextToken") or 0)
    end = start + request.get("MaxResults", _PAGE_SIZE)
    return chosen[start:end], {"NextToken": str(end)} if end < len(chosen) else {}


def _matches(item: Response, request: Request, name_key: str, status_key: str | None) -> bool:
    if request.get("NameContains", "").lower() not in item[name_key].lower():
        return False
    if status_key and request.get("StatusEquals", item[status_key]) != item[status_key]:
        return False
    for key in ("CreationTime", "LastModifiedTime"):
        if f"{key}After" in request and not item[key] > request[f"{key}After"]:
            return False
        if f"{key}Before" in request and not item[key] < request[f"{key}Before"]:
            return False
    return True


def missing(kind: str, resource_arn: str, operation: str) -> ServiceError:
    """The answer to a name that does not exist."""
    return ServiceError(f'Could not find {kind} "{resource_arn}".', operation)


def existing(kind: str, resource_arn: str, operation: str) -> ServiceError:
    """The answer to a hosting name that is taken."""
    return ServiceError(f'Cannot create already existing {kind} "{resource_arn}".', operation)
