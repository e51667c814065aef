"""Models of one output, whose answer to an input is a number."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sm_launch.errors import UserInputError
from sm_launch.evaluation.wire import WireError, read_scores


def read_score(answer: Any) -> float:
    """The number of one answer. Raises WireError where there is another count of them."""
    scores = list(read_scores(answer).scores.values())
    if len(scores) != 1:
        raise WireError(f"{len(scores)} scores instead of one: {str(answer)[:120]}")
    return scores[0]


def check_no_classes(answers: Iterable[Any], task: str) -> None:
    """Raise UserInputError where the first answers are those of a classifier."""
    for answer in answers:
        try:
            answered = read_scores(answer)
        except WireError:
            continue  # its row fails, and is named
        if len(answered.scores) > 1:
            raise UserInputError(
                f"the model has the classes {', '.join(sorted(answered.scores)[:20])}, and gives "
                "no single number",
                field="evaluation.task",
                value=task,
                fix="set it to text-classification",
            )
