"""The thresholds that a classifier was trained to decide by, as its config.json has them.

They stand in `task_specific_params` of text-classification: a number for all labels of a text that
may have several, or numbers by label.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sm_serve.artefact.learnt import learnt_parameters
from sm_serve.errors import StartupError
from sm_serve.protocol import Task

MULTI_LABEL = "multi_label_classification"
USUAL = 0.5


def read_thresholds(config: Mapping[str, Any], labels: Sequence[str]) -> tuple[float, ...] | None:
    """In the order of the labels; None where nothing is said. Raises StartupError for bad ones.

    Labels left out have 0.5 where a text may have several, else they share what is missing to 1.
    """
    asked = learnt_parameters(config, str(Task.TEXT_CLASSIFICATION)).get("threshold")
    if asked is None:
        return None
    several = config.get("problem_type") == MULTI_LABEL
    if several and not isinstance(asked, Mapping):
        asked = dict.fromkeys(labels, asked)
    given = asked if isinstance(asked, Mapping) else {"": asked}
    fit = all(name in labels and _fits(value, several) for name, value in given.items())
    left = len(labels) - len(given)
    if not fit or (left and not several and sum(given.values()) >= 1):
        raise StartupError(
            f"config.json: task_specific_params: threshold={str(asked)[:80]} must be numbers from 0"
            f" to 1 by label; the labels are {', '.join(labels[:20])}"
        )
    usual = USUAL if several else (1 - sum(given.values())) / max(left, 1)
    return tuple(float(given.get(label, usual)) for label in labels)


def _fits(value: Any, several: bool) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return 0 <= value <= 1 if several else 0 < value < 1
