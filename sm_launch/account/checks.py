"""What a look at the machine or the account finds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

State = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Check:
    """One finding.

    Attributes:
        name: what was looked at.
        state: `warning` hinders some targets only, `problem` hinders the wanted one.
        detail: what was found.
        fix: what to do; empty where nothing is to be done.
    """

    name: str
    state: State
    detail: str
    fix: str = ""


Clients = Callable[[str, str | None], Any]
