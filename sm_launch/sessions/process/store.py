"""State on disk: one directory per job or endpoint, which outlives the command that made it.

    <home>/<kind>/<name>/request.json   what was asked for; never changed
                         state.json     what became of it; replaced atomically
                         alive.lock     locked for as long as a supervisor watches over it
                         stop           exists once somebody asked it to stop
                         log.txt        stdout and stderr of the container's processes

Only the holder of `alive.lock` writes state.json: the supervisor, or, once that has died, whoever
notices and obtains the lock. A lock goes with its process, whatever killed that, so a crash or a
reboot cannot leave a job that claims to run.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

State = dict[str, Any]

TRAINING_JOBS = "training-jobs"
MODELS = "models"
ENDPOINT_CONFIGS = "endpoint-configs"
ENDPOINTS = "endpoints"
TRANSFORM_JOBS = "transform-jobs"
TUNING_JOBS = "tuning-jobs"


class Record:
    """One job, model or endpoint."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.name
        self.log_path = path / "log.txt"
        self.lock_path = path / "alive.lock"
        self._stop_path = path / "stop"

    def has(self, what: str) -> bool:
        """Whether there is a document of that name."""
        return (self.path / f"{what}.json").exists()

    def discard(self, what: str) -> None:
        """Delete a document, if there is one."""
        (self.path / f"{what}.json").unlink(missing_ok=True)

    def read(self, what: str) -> State:
        """The contents of a document (`request`, `state`, …).

        Raises:
            FileNotFoundError: the record is gone.
        """
        loaded: State = json.loads((self.path / f"{what}.json").read_text())
        return loaded

    def write(self, what: str, value: State) -> None:
        """Replace the contents of a document in one step."""
        write_json(self.path / f"{what}.json", value)

    def update(self, **changes: Any) -> State:
        """Change some keys of the state; a value of None removes the key."""
        state = {**self.read("state"), **changes}
        state = {key: value for key, value in state.items() if value is not None}
        self.write("state", state)
        return state

    def request_stop(self) -> None:
        """Ask the supervisor to stop; it looks several times a second."""
        self._stop_path.touch()

    @property
    def stop_requested(self) -> bool:
        """Whether somebody asked for a stop."""
        return self._stop_path.exists()

    def lock(self) -> int | None:
        """A descriptor that holds the record's lock, or None while another process holds it."""
        descriptor = os.open(self.lock_path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor

    def remove(self) -> None:
        """Delete the directory, in one step as seen by others."""
        grave = self.path.parent / f".removed-{self.name}-{os.getpid()}"
        self.path.rename(grave)
        remove_tree(grave)


class Store:
    """All records below one home directory."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def create(self, kind: str, name: str, request: State, state: State) -> tuple[Record, int]:
        """Make a record, already locked.

        Returns:
            The record and the descriptor that holds its lock: hand it to a supervisor or close it.

        Raises:
            FileExistsError: there is one of that name.
        """
        parent = self.home / kind
        parent.mkdir(parents=True, exist_ok=True)
        # Built aside and renamed, so that nobody ever sees half a record.
        draft = Record(Path(tempfile.mkdtemp(prefix=".new-", dir=parent)))
        descriptor = draft.lock()
        assert descriptor is not None, "a new directory cannot be locked by anybody else"
        draft.write("request", request)
        draft.write("state", state)
        record = Record(parent / name)
        try:
            draft.path.rename(record.path)
        except OSError as error:
            os.close(descriptor)
            remove_tree(draft.path)
            if record.path.exists():
                raise FileExistsError(str(record.path)) from None
            raise error
        return record, descriptor

    def find(self, kind: str, name: str) -> Record | None:
        """The record of that name, or None."""
        record = Record(self.home / kind / name)
        return record if (record.path / "state.json").is_file() else None

    def records(self, kind: str) -> list[Record]:
        """Every record of a kind, in the order of their names."""
        parent = self.home / kind
        if not parent.is_dir():
            return []
        names = sorted(path.name for path in parent.iterdir() if not path.name.startswith("."))
        return [record for name in names if (record := self.find(kind, name))]


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file so that a reader sees the old or the new one, never a part."""
    write_bytes(path, json.dumps(value, indent=1, default=str).encode())


def write_bytes(path: Path, content: bytes) -> None:
    """The same for any content; directories are made as needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as out:
        out.write(content)
    Path(out.name).replace(path)


def remove_tree(path: Path) -> None:
    """Delete a tree, read-only directories in it too; links are removed, not followed."""
    for directory, _, _ in os.walk(path):
        Path(directory).chmod(0o700)
    shutil.rmtree(path, ignore_errors=True)
