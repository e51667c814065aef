"""A reward model: how often, and by how much, the chosen answer scores above the rejected one."""

from __future__ import annotations

import itertools
import json
from collections.abc import Collection, Sequence
from typing import Any

from sm_launch.evaluation.conversations import (
    SYSTEM_COLUMNS,
    messages_of,
    with_prompt,
)
from sm_launch.evaluation.example import Example, Row, UnusableRow, missing
from sm_launch.evaluation.result import Prediction
from sm_launch.evaluation.task import Statistic, Task, mean_of_values, read_list
from sm_launch.evaluation.tasks.single_score import check_no_classes, read_score

CHOSEN, REJECTED = "chosen", "rejected"


class Reward(Task):
    """Rows are those of the method `reward`: `chosen` and `rejected`, and maybe a `prompt`.

    Each is a text or a list of messages. A conversation is sent as {"messages": …}, for the
    model's own chat template; a text is sent with the end-of-sequence token that training put
    behind it (parameter `eos_token`, which is not sent).
    """

    name = "reward"
    main_metric = "accuracy"
    DEFAULT_COLUMNS = ("prompt", CHOSEN)

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._end = str(self.parameters.pop("eos_token", None) or "")
        # The number itself: the pipeline's default for one output is a sigmoid.
        self.parameters = {**self.parameters, "function_to_apply": "none"}

    @property
    def columns(self) -> dict[str, str]:
        return {"label_column": self.label_column, "rejected": REJECTED}

    def identity(self) -> dict[str, Any]:
        return {**super().identity(), "text_column": self.text_column, "eos_token": self._end}

    def example(self, index: int, row: Row) -> Example:
        answers = []
        for name in (self.label_column, REJECTED):
            if missing(row.get(name)):
                raise UnusableRow(f"no answer in column {name!r}")
            answers.append(row[name])
        prompt = row.get(self.text_column)
        inputs = [self._input(None if missing(prompt) else prompt, a, row) for a in answers]
        if inputs[0] == inputs[1]:
            raise UnusableRow("chosen and rejected are the same")
        texts = [text for text in map(_shown, (prompt, *answers)) if text]
        return Example(index, "\n\n".join(texts), CHOSEN, inputs)

    def _input(self, prompt: Any, answer: Any, row: Row) -> Any:
        """One conversation or text as the server takes it."""
        asked, said = messages_of(prompt), messages_of(answer)
        framed = prompt is not None and any(name in row for name in SYSTEM_COLUMNS)
        if asked is None and said is None and not framed:
            text = f"{'' if prompt is None else prompt}{answer}"
            return text if text.endswith(self._end) else text + self._end
        turns = said or [{"role": "assistant", "content": answer}]
        if prompt is not None:
            turns = with_prompt(asked, turns, row, self.text_column)
        tools = {"tools": row["tools"]} if row.get("tools") else {}
        return {"messages": turns, **tools}

    def encode(self, examples: Sequence[Example]) -> bytes:
        inputs = [one for example in examples for one in example.payload]
        payload = {"inputs": inputs, "parameters": {"top_k": None, **self.parameters}}
        return json.dumps(payload, ensure_ascii=False).encode()

    def answers(self, body: bytes, expected: int) -> list[Any]:
        scores = read_list(body, 2 * expected)
        return [scores[at : at + 2] for at in range(0, len(scores), 2)]

    def read(self, example: Example, answer: Any) -> Prediction:
        chosen, rejected = map(read_score, answer)
        return Prediction(
            example.index, example.text, CHOSEN, CHOSEN if chosen > rejected else REJECTED,
            slices=example.slices,
            values={
                "accuracy": float(chosen > rejected),
                "margin": chosen - rejected,
                "mean_reward": (chosen + rejected) / 2,
            },
        )  # fmt: skip

    def check_first(self, answers: Sequence[Any], golds: Collection[str]) -> None:
        check_no_classes(itertools.chain.from_iterable(answers), self.name)

    def statistic(self, predictions: Sequence[Prediction]) -> Statistic:
        return mean_of_values(predictions)


def _shown(value: Any) -> str:
    """Messages as lines that a reader understands."""
    if not isinstance(value, list):
        return "" if missing(value) else str(value)
    turns = (turn for turn in value if isinstance(turn, dict))
    return "\n".join(f"{turn.get('role')}: {turn.get('content')}" for turn in turns)


TASK = Reward
