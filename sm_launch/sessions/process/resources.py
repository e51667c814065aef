"""What resources of every kind have in common: ARNs, records, descriptions, listings, an end."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sm_launch.job.limits import TRAINING_FINAL_STATUSES as FINAL
from sm_launch.redaction import redact
from sm_launch.sessions.errors import RESOURCE_IN_USE, VALIDATION, ServiceError
from sm_launch.sessions.process import detached
from sm_launch.sessions.process.artefacts import last_lines, read_lines
from sm_launch.sessions.process.base import Machine, Request, Response, described, page
from sm_launch.sessions.process.children import kill_processes_below
from sm_launch.sessions.process.runs import POLL_SECONDS
from sm_launch.sessions.process.store import Record, State

ARN_PREFIX = "arn:aws:sagemaker:local:000000000000"
"""What the ARNs of local resources begin with."""

# A supervisor writes the last status and then has only its own end before it.
_SUPERVISOR_SECONDS = 5


class Resources:
    """The resources of one kind on a machine; each subclass is a kind.

    Attributes:
        directory: of the store, where their records are.
        resource: what their ARNs have before the name.
        word: what people call one.
        prefix: `TrainingJob` makes the member TrainingJobName and the operation ListTrainingJobs.
        name_key, arn_key, status_key: members made so; definitions have no status.
        listed: the member of a List answer that holds the summaries.
        summary: the members of a summary beside name and ARN.
        hidden: the members of the creation request that a description does not repeat.
        missing: the answer to a name that does not exist, and its code.
        taken: the answer to a name that exists already, and its code.
        end: the members with the time of the end, where it ended by the death of its supervisor.
        after_death: what becomes of the rest then, and what to do.
    """

    directory: str
    resource: str
    word: str
    prefix: str
    listed: str
    summary: tuple[str, ...]
    hidden: frozenset[str] = frozenset({"Tags"})
    missing: tuple[str, str] = ('Could not find {word} "{arn}".', VALIDATION)
    end: tuple[str, ...] = ()
    after_death: str = ""
    taken: tuple[str, str] = ('Cannot create already existing {word} "{arn}".', VALIDATION)

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._store = machine.store
        self.name_key = f"{self.prefix}Name"
        self.arn_key = f"{self.prefix}Arn"
        self.status_key = f"{self.prefix}Status"

    def arn(self, name: str) -> str:
        """The ARN of the resource of that name."""
        return f"{ARN_PREFIX}:{self.resource}/{name}"

    def describe(self, **request: Any) -> Response:
        """What was asked for, and what became of it."""
        operation = f"Describe{self.prefix}"
        self._machine.validator.check(operation, request)
        name = request[self.name_key]
        try:
            return self.description(*self.get(name, operation))
        except FileNotFoundError:  # removed meanwhile
            raise self._error(self.missing, name, operation) from None

    def summaries(self, **request: Any) -> Response:
        """What the List operation answers: filtered, sorted and cut as asked."""
        self._machine.validator.check(f"List{self.prefix}s", request)
        items = []
        for resource in self.all():
            with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                items.append(self.summarize(*resource))
        status_key = self.status_key if self.status_key in self.summary else None
        chosen, more = page(items, request, name_key=self.name_key, status_key=status_key)
        return {self.listed: chosen, **more}

    def description(self, record: Record, state: State) -> Response:
        """One resource as Describe shows it."""
        created: Request = record.read("request")["request"]
        echo = {key: value for key, value in created.items() if key not in self.hidden}
        return {**echo, self.arn_key: self.arn(record.name), **described(state)}

    def summarize(self, record: Record, state: State) -> Response:
        """One resource as List shows it."""
        shown = described({key: state[key] for key in self.summary if key in state})
        return {self.name_key: record.name, self.arn_key: self.arn(record.name), **shown}

    def get(self, name: str, operation: str) -> tuple[Record, State]:
        """The record of that name and its state.

        Raises:
            ServiceError: there is none.
        """
        resource = self.find(name)
        if resource is None:
            raise self._error(self.missing, name, operation)
        return resource

    def created(self, name: str, operation: str) -> Request:
        """What the one of that name was created with.

        Raises:
            ServiceError: there is none.
        """
        request: Request = self.get(name, operation)[0].read("request")["request"]
        return request

    def all(self) -> list[tuple[Record, State]]:
        """Every record with its state, in the order of their names."""
        records = self._store.records(self.directory)
        return [resource for record in records if (resource := self.find(record.name))]

    def find(self, name: str) -> tuple[Record, State] | None:
        """The record of that name and its state: Failed where what watched over it has died."""
        record = self._store.find(self.directory, name)
        if record is None:
            return None
        try:
            state = self.shown(record, self._living_state(record))
        except FileNotFoundError:  # removed meanwhile
            return None
        return None if state is None else (record, state)

    def shown(self, record: Record, state: State) -> State | None:
        """The state with what was asked for since it was written; None where it is gone."""
        return state

    def failed(self, state: State) -> State:
        """What to write when the process that watched over one has died."""
        reason = (
            f"InternalServerError: the process that watched over this {self.word.split()[-1]} died "
            f"(it was killed, or the machine restarted){self.after_death}"
        )
        now = time.time()
        return {self.status_key: "Failed", "FailureReason": reason, **dict.fromkeys(self.end, now)}

    def log_path(self, name: str) -> Path:
        """The file to which stdout and stderr go; it may not exist yet."""
        return self.get(name, f"Describe{self.prefix}")[0].log_path

    def log_lines(self, name: str, cursor: object = None) -> tuple[list[str], int]:
        """The log lines that are new since `cursor`, and the next cursor."""
        return read_lines(self.log_path(name), cursor)

    def write(self, request: Request, contents: State, state: State) -> tuple[Record, int]:
        """Make a record, its lock held by the descriptor.

        Raises:
            ServiceError: there is one of that name.
        """
        name = request[self.name_key]
        contents = {"request": request, **contents}
        try:
            return self._store.create(self.directory, name, contents, state)
        except FileExistsError:
            raise self._error(self.taken, name, f"Create{self.prefix}") from None

    def begin(self, request: Request, contents: State, state: State) -> str:
        """Make a record and start what watches over it; returns the ARN.

        Raises:
            ServiceError: there is one of that name.
        """
        arn = self.arn(request[self.name_key])
        first = {self.arn_key: arn, self.status_key: "InProgress", "CreationTime": time.time()}
        settings = asdict(self._machine.settings)
        record, lock = self.write(request, {"settings": settings, **contents}, {**first, **state})
        detached.start(record, lock)
        return arn

    def _error(self, answer: tuple[str, str], name: str, operation: str) -> ServiceError:
        text, code = answer
        text = text.format(word=self.word, name=name, arn=self.arn(name))
        return ServiceError(text, operation, code=code)

    def _living_state(self, record: Record) -> State:
        state = record.read("state")
        lock = None if self._is_settled(state) else record.lock()
        if lock is None:
            return state
        try:
            # The last words of a supervisor that ended in between.
            state = record.read("state")
            if self._is_settled(state):
                return state
            kill_processes_below(record.path)
            changes = self.failed(state)
            lines = last_lines(record.path / "supervisor.log", 300)
            if lines:
                changes["FailureReason"] += f" Its last words: {redact(lines)}"
            return record.update(**changes)
        finally:
            os.close(lock)

    def _is_settled(self, state: State) -> bool:
        """Whether nothing watches over it any more: it is over, or is a mere definition."""
        return self.status_key not in state or state[self.status_key] in FINAL


class Jobs(Resources):
    """Resources that run to an end, or to a stop."""

    missing = ('Could not find requested job with name: "{name}".', "ResourceNotFound")
    taken = ("A {word} with this name already exists ({arn})", RESOURCE_IN_USE)

    def shown(self, record: Record, state: State) -> State | None:
        """Stopping from the moment that a stop was asked for."""
        if state[self.status_key] == "InProgress" and record.stop_requested:
            state[self.status_key] = "Stopping"
        return state

    def stop(self, **request: Any) -> Response:
        """SIGTERM to what runs, and SIGKILL when the grace time is over."""
        operation = f"Stop{self.prefix}"
        self._machine.validator.check(operation, request)
        record, state = self.get(request[self.name_key], operation)
        if state[self.status_key] not in {"InProgress", "Stopping"}:
            status = state[self.status_key]
            raise ServiceError(
                f"The request was rejected because the {self.word} is in status {status}.",
                operation,
            )
        record.request_stop()
        return {}

    def delete(self, **request: Any) -> Response:
        """Remove the directory of a job that is over; its artefacts under S3OutputPath stay."""
        operation = f"Delete{self.prefix}"
        self._machine.validator.check(operation, request)
        record, state = self.get(request[self.name_key], operation)
        status = state[self.status_key]
        if status not in FINAL or not remove(record):
            raise ServiceError(
                f"{record.name} is in status {status}: stop it and wait for its end first",
                operation,
            )
        return {}


def remove(record: Record) -> bool:
    """Remove a record; False if its supervisor, which should be about to end, does not."""
    deadline = time.monotonic() + _SUPERVISOR_SECONDS
    while (lock := record.lock()) is None:
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    try:
        record.remove()
    finally:
        os.close(lock)
    return True
