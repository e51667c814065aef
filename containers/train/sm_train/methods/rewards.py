"""Rewards for the online methods: verifiable ones built in, others from the `code` channel.

A reward function is TRL's: `f(completions, **columns) -> list[float | None]`.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import inspect
import json
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sm_train.contract import Paths
from sm_train.data.formats import check_prompts
from sm_train.errors import UserError, shorten

Reward = Callable[..., list[float | None]]

_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
_BOX = "\\boxed{"
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
    reward_model_name_or_path: str | None = field(
        default=None,
        metadata={
            "help": "A reward model (Hub id, path, or channel:NAME), added to reward_funcs, or "
            "used alone where those are not given."
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
    elif _BOX in text:
        text = _in_braces(text.rsplit(_BOX, 1)[1])
    elif numbers := _NUMBER.findall(text):
        text = numbers[-1]
    return text.strip().rstrip(".").replace(",", "").removeprefix("$").strip().lower()


def _in_braces(text: str) -> str:
    """Up to the brace that closes the one before `text`."""
    depth = 1
    for place, character in enumerate(text):
        depth += {"{": 1, "}": -1}.get(character, 0)
        if depth == 0:
            return text[:place]
    return text


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
    known = [*built_in(arguments), *TRL_REWARDS]
    for name in arguments.reward_funcs:
        if name not in known and not re.search(r"\w[:.]\w", name):
            raise UserError(
                f"{name!r} is not a reward",
                field="reward_funcs",
                value=arguments.reward_funcs,
                fix=f"use {', '.join(known)}, or file.py:function of `code`",
            )
    if "regex" in arguments.reward_funcs:
        _check_pattern(arguments.reward_pattern)


def _check_pattern(pattern: str | None) -> None:
    try:
        re.compile(pattern or "(")
    except (re.error, RecursionError, OverflowError) as error:
        raise UserError(
            f"the reward regex needs a pattern: {error}",
            field="reward_pattern",
            value=pattern,
            fix="set it to a regular expression",
        ) from error


def check_files(config: Any, paths: Paths) -> None:
    """The files and the reward model that the settings name must be there, and parse."""
    arguments: RewardArguments = config.own
    for name in arguments.reward_funcs:
        if name not in built_in(arguments) and name not in TRL_REWARDS:
            _check_function(name, paths)
    _reward_model(arguments, paths)


def _check_function(name: str, paths: Paths) -> None:
    path, function = _place(name, paths)
    if not path.is_file():
        raise UserError("no such file", field="reward_funcs", value=name, fix=f"upload {path}")
    try:
        body = ast.parse(path.read_bytes()).body
    except (SyntaxError, ValueError) as error:
        raise UserError(
            f"is not valid Python: {error}", field="reward_funcs", value=name
        ) from error
    defined = [n.name for n in body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    if function not in defined and not _may_import(body, function):
        raise UserError(
            f"{path.name} defines no {function}",
            field="reward_funcs",
            value=name,
            fix=f"name one of its functions: {', '.join(defined) or 'it has none'}",
        )


def _may_import(body: list[ast.stmt], function: str) -> bool:
    """Whether the name may come from an assignment, an import, or a block."""
    plain = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Expr)
    other = [node for node in body if not isinstance(node, plain)]
    return any(function in ast.unparse(node) or "*" in ast.unparse(node) for node in other)


def _reward_model(arguments: RewardArguments, paths: Paths) -> str | None:
    from sm_train.modelling.base_model import resolve_model

    name = arguments.reward_model_name_or_path
    return resolve_model(paths, name, "reward_model_name_or_path") if name else None


ANSWER_COLUMNS = {
    "exact_answer": "{answer_column}",
    **dict.fromkeys(("accuracy_reward", "reasoning_accuracy_reward"), "solution"),
}
"""Of the rewards that compare: the column with the right answer, or in braces what names it."""


def check_answers(config: Any, data: Any) -> None:
    """The rewards that compare need the right answer in every row."""
    check_prompts(config, data)
    arguments: RewardArguments = config.own
    columns = {**ANSWER_COLUMNS, "exact_answer": arguments.answer_column}
    for name in _names(config):
        for split in ("train", "validation", "test") if name in columns else ():
            rows = data.split(split) or ()
            missing = sum(row.get(columns[name]) is None for row in rows)
            if missing:
                raise UserError(
                    f"the reward {name} needs it, and {missing} of {len(rows)} rows of {split} "
                    "lack it",
                    field="answer_column" if name == "exact_answer" else "column",
                    value=columns[name],
                    fix="name the column that holds the right answer, rename it with columns, or "
                    "use another reward",
                )


def _names(config: Any) -> list[str]:
    """The functions to use: a reward model alone replaces the default one."""
    arguments: RewardArguments = config.own
    alone = arguments.reward_model_name_or_path and "reward_funcs" not in config.given
    return [] if alone else arguments.reward_funcs


# TRL's rewards by their names on its command line.
TRL_REWARDS = (
    "accuracy_reward",
    "reasoning_accuracy_reward",
    "think_format_reward",
    "get_soft_overlong_punishment",
)


def reward_functions(config: Any, paths: Paths) -> list[Reward | str]:
    """The reward model, if there is one, and the functions that `reward_funcs` names."""
    arguments: RewardArguments = config.own
    model = _reward_model(arguments, paths)
    known = built_in(arguments)
    functions = [known.get(name) or _other(name, paths) for name in _names(config)]
    return [*([model] if model else []), *functions]


def _other(name: str, paths: Paths) -> Reward:
    if name in TRL_REWARDS:
        return _of_trl(name)
    path, function = _place(name, paths)
    return _checked(_imported(path, function, name), name)


def _of_trl(name: str) -> Reward:
    """TRL's own reward; it wants messages, also where the prompts are plain text."""
    import trl.rewards

    reward: Any = getattr(trl.rewards, name)
    if name == "get_soft_overlong_punishment":
        made: Reward = reward(max_completion_len=1280, soft_punish_cache=256)  # as TRL's script
        return made

    @functools.wraps(reward)
    def on_messages(completions: Sequence[Any], **columns: Any) -> list[float | None]:
        chats = [[{"content": c}] if isinstance(c, str) else c for c in completions]
        rewards: list[float | None] = reward(completions=chats, **columns)
        return rewards

    return on_messages


def _place(name: str, paths: Paths) -> tuple[Path, str]:
    """File and function of file.py:function or module.function."""
    file, _, function = name.rpartition(":" if ":" in name else ".")
    folder = paths.channel("code") or paths.base / "code"
    return folder / (file if file.endswith(".py") else f"{file.replace('.', '/')}.py"), function


def _checked(reward: Any, name: str) -> Reward:
    """The user's function with its result looked at: TRL would fail far from the cause."""
    if inspect.iscoroutinefunction(reward):
        awaited: Reward = reward
        return awaited

    @functools.wraps(reward)
    def with_check(completions: Sequence[Any], **columns: Any) -> list[float | None]:
        rewards = reward(completions=completions, **columns)
        if not isinstance(rewards, Sequence) or len(rewards) != len(completions):
            raise UserError(
                f"returned {shorten(repr(rewards))} for {len(completions)} completions",
                field="reward_funcs",
                value=name,
                fix="return a list with one number (or None) for each completion",
            )
        return [None if r is None else float(r) for r in rewards]

    return with_check


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
