"""Where a job's curves go besides its log: `report_to`."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from sm_train.errors import UserError
from sm_train.settings.packages import TRACKERS

if TYPE_CHECKING:
    from sm_train.settings.settings import Config

KNOWN = ("all", "none", "tensorboard", *TRACKERS, "kubeflow")
"""What transformers takes; a test holds it against transformers."""


def check_reporters(config: Config) -> None:
    """Raise UserError for a name that transformers would refuse once the model is loaded."""
    for name in _names(config.training.get("report_to")):
        if name not in KNOWN:
            close = get_close_matches(name, KNOWN, n=1)
            raise UserError(
                f"{name!r} is no tracker",
                field="report_to",
                value=config.training["report_to"],
                fix=f"did you mean {close[0]!r}?" if close else f"choose of {', '.join(KNOWN)}",
            )


def reporters(given: Any) -> list[str]:
    """`report_to` as a list: TensorBoard is always among them, unless the user wants none."""
    names = _names(given)
    if names == ["none"]:
        return []
    if "all" in names:
        return ["all"]  # transformers knows the word by itself alone; TensorBoard is among them
    return list(dict.fromkeys([*(name for name in names if name != "none"), "tensorboard"]))


def _names(given: Any) -> list[str]:
    return [given] if isinstance(given, str) else [str(name) for name in given or []]
