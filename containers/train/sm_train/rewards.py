"""Rewards for the online methods: verifiable ones built in, others from the `code` channel.

A reward function is TRL's: `f(completions, **columns) -> list[float | None]`.
"""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sm_train.contract import Paths
from sm_train.errors import UserError

Reward = Callable[..., list[float | None]]

_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
_BOXED = re.compile(r"\\boxed\{([^{}]*)\}")
_ANSWER_MARK = "####"  # GSM8K's


@dataclass(frozen=True)
class RewardArguments:
    """Hyperparameters of the online methods beside TRL's own."""

    reward_funcs: list[str] = field(
        default_factory=lambda: ["exact_answer"],
        metadata={
            "help": "Rewards, added up (weights: reward_weights). Built in: exact_answer, regex, "
            "json, length; a TRL reward by its name; or file.py:function from the `code` channel."
        },
    )
    answer_column: str = field(
        default="answer", metadata={"help": "Column that exact_answer compares with."}
    )
    reward_pattern: str | None = field(
        default=None, metadata={"help": "What the reward regex looks for in an answer."}
    )
    reward_length: int = field(
        default=256,
        metadata={"help": "Tokens up to which the reward length is 1; it is 0 from twice as many."},
    )


def completion_text(completion: Any) -> str:
    """The answer's text; in a conversation, the last message's."""
    if isinstance(completion, list):
        return str(completion[-1].get("content") or "") if completion else ""
    return str(completion)


def final_answer(text: str) -> str:
    """What a solution ends in: after ####, in the last \\boxed{}, else its last number."""
    if _ANSWER_MARK in text:
        text = text.rsplit(_ANSWER_MARK, 1)[1].strip().split("\n")[0]
    elif boxed := _BOXED.findall(text):
        text = boxed[-1]
    elif numbers := _NUMBER.findall(text):
        text = numbers[-1]
    return text.strip().rstrip(".").replace(",", "").removeprefix("$").strip().lower()


def same_answer(given: str, expected: str) -> bool:
    """Equal as text or as numbers."""
    left, right = final_answer(given), final_answer(expected)
    try:
        return float(left) == float(right)
    except ValueError:
        return bool(left) and left == right


def built_in(arguments: RewardArguments) -> dict[str, Reward]:
    """The verifiable rewards by name; each gives between 0 and 1."""

    def exact_answer(completions: Sequence[Any], **columns: Any) -> list[float | None]:
        expected = columns[arguments.answer_column]
        return [
            float(same_answer(completion_text(given), str(answer)))
            for given, answer in zip(completions, expected, strict=True)
        ]

    def regex(completions: Sequence[Any], **_: Any) -> list[float | None]:
        pattern = re.compile(arguments.reward_pattern or "", re.DOTALL)
        return [float(bool(pattern.search(completion_text(c)))) for c in completions]

    def valid_json(completions: Sequence[Any], **_: Any) -> list[float | None]:
        return [float(_is_json(completion_text(c))) for c in completions]

    def length(
        completions: Sequence[Any], completion_ids: Sequence[Sequence[int]], **_: Any
    ) -> list[float | None]:
        limit = arguments.reward_length
        return [min(1.0, max(0.0, 2 - len(ids) / limit)) for ids in completion_ids]

    return {"exact_answer": exact_answer, "regex": regex, "json": valid_json, "length": length}


def _is_json(text: str) -> bool:
    body = re.sub(r"^```(?:json)?\s*|\s*```$", "", text.strip())
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        return False
    return True


def check_rewards(config: Any) -> None:
    """Refuse names that are no reward, a regex without or with a broken pattern."""
    arguments: RewardArguments = config.own
    known = built_in(arguments)
    for name in arguments.reward_funcs:
        if name not in known and name not in _TRL_REWARDS and not re.search(r"\w[:.]\w", name):
            raise UserError(
                f"{name!r} is not a reward",
                field="reward_funcs",
                value=arguments.reward_funcs,
                fix=f"use {', '.join([*known, *_TRL_REWARDS])}, or file.py:function of `code`",
            )
    if "regex" not in arguments.reward_funcs:
        return
    try:
        re.compile(arguments.reward_pattern or "(")
    except re.error as error:
        raise UserError(
            f"the reward regex needs a pattern: {error}",
            field="reward_pattern",
            value=arguments.reward_pattern,
            fix="set it to a regular expression",
        ) from error


def check_answers(config: Any, data: Any) -> None:
    """`exact_answer` needs the column it compares with in every row."""
    arguments: RewardArguments = config.own
    if "exact_answer" not in arguments.reward_funcs:
        return
    for split in ("train", "validation", "test"):
        rows = data.split(split) or ()
        missing = sum(row.get(arguments.answer_column) is None for row in rows)
        if missing:
            raise UserError(
                f"the reward exact_answer needs it, and {missing} of {len(rows)} rows of {split} "
                "lack it",
                field="answer_column",
                value=arguments.answer_column,
                fix="name the column that holds the right answer, or use another reward",
            )


_TRL_REWARDS = ("accuracy_reward", "reasoning_accuracy_reward", "think_format_reward")


def reward_functions(arguments: RewardArguments, paths: Paths) -> list[Reward]:
    """The functions that `reward_funcs` names, in its order."""
    known = built_in(arguments)
    return [known.get(name) or _other(name, paths) for name in arguments.reward_funcs]


def _other(name: str, paths: Paths) -> Reward:
    if name in _TRL_REWARDS:
        import trl.rewards

        reward: Reward = getattr(trl.rewards, name)
        return reward
    file, _, function = name.rpartition(":" if ":" in name else ".")
    path = _code_folder(paths) / (file if file.endswith(".py") else f"{file.replace('.', '/')}.py")
    if not path.is_file():
        raise UserError("no such file", field="reward_funcs", value=name, fix=f"upload {path}")
    return _imported(path, function, name)


def _code_folder(paths: Paths) -> Path:
    return paths.channel("code") or paths.base / "code"


def _imported(path: Path, function: str, name: str) -> Reward:
    sys.path.insert(0, str(path.parent))  # the file may import its neighbours
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        reward: Reward = getattr(module, function)
    except Exception as error:
        raise UserError(
            f"cannot be loaded: {type(error).__name__}: {error}", field="reward_funcs", value=name
        ) from error
    return reward
