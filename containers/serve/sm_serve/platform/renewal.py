"""A server that starts anew in its own process, when nothing else mends its engine.

A thread that hangs cannot be ended, and what it holds (memory, a GPU's context) is not given back.
So the whole program is replaced, by exec: the process stays, and so does its port, with those who
wait to connect.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import MutableMapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NoReturn

HANDED_ON = "_SM_SERVE_HANDED_ON"
"""The variable by which a server tells the next one."""
BROKEN_SECONDS = 10.0
"""An engine that has been dead or stuck for so long does not come back."""


@dataclass
class Changes:
    """Adapters that clients loaded since the start (name and path), and those that they unloaded.

    What takes an engine's place is to be as they know it.
    """

    loaded: dict[str, str] = field(default_factory=dict)
    unloaded: list[str] = field(default_factory=list)

    def load(self, name: str, path: Path) -> None:
        """An adapter was loaded."""
        self.loaded[name] = str(path)

    def unload(self, name: str) -> None:
        """An adapter was unloaded: one of the artefact's, unless it was loaded before."""
        if self.loaded.pop(name, None) is None:
            self.unloaded.append(name)


@dataclass
class HandedOn:
    """What a server hands on to the one that takes its place.

    `listener` is the descriptor of its port, `deaths` how many in a row did not last, `models` the
    names and places of a multi-model server's.
    """

    listener: int = -1
    deaths: int = 0
    changes: Changes = field(default_factory=Changes)
    models: list[tuple[str, str]] = field(default_factory=list)


def received(environ: MutableMapping[str, str]) -> HandedOn:
    """What the server before has handed on; nothing in the first one. Children do not see it."""
    told = environ.pop(HANDED_ON, "")
    if not told:
        return HandedOn()
    values = json.loads(told)
    models = [(name, url) for name, url in values.pop("models")]
    return HandedOn(**{**values, "changes": Changes(**values["changes"]), "models": models})


def start_anew() -> NoReturn:
    """Replaces this program by a new start of it, in the same process."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606


def hand_on(handed: HandedOn) -> NoReturn:
    """Starts anew with what is handed on; all other descriptors are closed."""
    for each in Path("/proc/self/fd").iterdir():
        descriptor = int(each.name)
        if descriptor > 2:  # libraries may have left theirs open to what is started
            with contextlib.suppress(OSError):
                os.set_inheritable(descriptor, descriptor == handed.listener)
    os.environ[HANDED_ON] = json.dumps(asdict(handed))
    start_anew()
