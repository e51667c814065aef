"""Where a job's curves go besides its log: `report_to`."""

from __future__ import annotations

from typing import Any


def reporters(given: Any) -> list[str]:
    """`report_to` as a list: TensorBoard is always among them, unless the user wants none."""
    names = [given] if isinstance(given, str) else list(given or [])
    if names == ["none"]:
        return []
    if "all" in names:
        return ["all"]  # transformers knows the word by itself alone; TensorBoard is among them
    return list(dict.fromkeys([*(name for name in names if name != "none"), "tensorboard"]))
