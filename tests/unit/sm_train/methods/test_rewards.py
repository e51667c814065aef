"""Rewards: answers as GSM8K and MATH have them, and functions from the `code` channel."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sm_train.config import load_config, parse_config
from sm_train.contract import Paths
from sm_train.data.channels import load_data
from sm_train.errors import UserError
from sm_train.methods.rewards import reward_functions, same_answer

GSM8K = "Natalia sold 48/2 = <<48/2=24>>24 clips in May.\nShe sold 48+24 = 72 in all.\n#### 72"


@pytest.mark.parametrize(
    ("given", "expected", "same"),
    [
        ("So she sold 72.", GSM8K, True),
        ("#### 72", GSM8K, True),
        ("The total is $72.00", GSM8K, True),
        (r"\boxed{72}", GSM8K, True),
        ("72 in May, 71 in June", GSM8K, False),
        ("I do not know", GSM8K, False),
        ("", GSM8K, False),
        ("#### 1,234", "1234", True),
        ("it is -3", "#### -3", True),
        (r"thus \boxed{\frac{1}{2}}", r"\boxed{\frac{1}{2}}", True),
        (r"thus \boxed{\frac{1}{3}}", r"\boxed{\frac{1}{2}}", False),
        ("Paris", "paris", True),
    ],
)
def test_final_answers(given: str, expected: str, same: bool) -> None:
    assert same_answer(given, expected) is same


def rewards(paths: Paths, completions: list[Any], names: str, **columns: Any) -> list[Any]:
    config = parse_config({"method": "grpo", "reward_funcs": names, "reward_pattern": "^a"})
    count = {"completion_ids": [[0]] * len(completions), "prompts": ["q"] * len(completions)}
    return [f(completions=completions, **count, **columns) for f in reward_functions(config, paths)]


def test_text_and_conversations_are_rewarded_alike(paths: Paths) -> None:
    texts = ["a 72", '{"x": 72}', "<think>\nx\n</think>\na"]
    chats = [[{"role": "assistant", "content": text}] for text in texts]
    names = "exact_answer,regex,json,length,think_format_reward,get_soft_overlong_punishment"
    answers = {"answer": [GSM8K] * 3}
    assert (
        rewards(paths, texts, names, **answers)
        == rewards(paths, chats, names, **answers)
        == [
            [1, 1, 0],
            [1, 0, 0],
            [0, 1, 0],
            [1, 1, 1],
            [0, 0, 1],
            [0, 0, 0],
        ]
    )


@pytest.fixture
def code(paths: Paths) -> Callable[[str], None]:
    def write(text: str) -> None:
        folder = paths.channels / "code"
        folder.mkdir(exist_ok=True)
        (folder / "mine.py").write_text(text)

    return write


def test_a_function_of_the_user_s(paths: Paths, code: Callable[[str], None]) -> None:
    code("def half(completions, **_):\n    return [0.5 for _ in completions]\n")
    assert rewards(paths, ["x", "y"], "mine.py:half") == [[0.5, 0.5]]
    assert rewards(paths, ["x", "y"], "mine.half") == [[0.5, 0.5]]
    code("def half(completions, **_):\n    return 0.5\n")
    with pytest.raises(UserError, match=r"mine.py:half.*returned 0.5 for 2 completions"):
        rewards(paths, ["x", "y"], "mine.py:half")


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("def f(:", "mine.py:f", "not valid Python"),
        ("def f(): pass", "mine.py:g", "defines no g.*functions: f"),
        ("", "other.py:f", "no such file.*upload .*code/other.py"),
        ("", "nonsense", "is not a reward.*exact_answer"),
    ],
)
def test_files_are_looked_at_before_anything_is_imported(
    paths: Paths,
    code: Callable[[str], None],
    hyperparameters: Callable[..., None],
    text: str,
    name: str,
    message: str,
) -> None:
    code(text)
    hyperparameters(method="grpo", reward_funcs=name)
    with pytest.raises(UserError, match=message):
        load_config(paths)


def test_names_that_are_imported_or_made_are_left_to_the_import(
    paths: Paths, code: Callable[[str], None], hyperparameters: Callable[..., None]
) -> None:
    code("from functools import partial\nf = partial(print)\n")
    hyperparameters(method="grpo", reward_funcs="mine.py:f")
    assert load_config(paths).own.reward_funcs == ["mine.py:f"]


def test_a_reward_model_alone_takes_the_place_of_the_default(
    paths: Paths, hyperparameters: Callable[..., None], channel: Callable[..., Path]
) -> None:
    folder = paths.channels / "rm"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"")
    hyperparameters(method="rloo", reward_model_name_or_path="channel:rm")
    channel("train", [{"prompt": "q"}])
    config = load_config(paths)
    load_data(paths, config)  # no answer column is asked for
    assert reward_functions(config, paths) == [str(folder)]
    hyperparameters(method="rloo", reward_model_name_or_path="channel:none")
    with pytest.raises(UserError, match="is not a channel of this job"):
        load_config(paths)


def test_answers_are_looked_for_before_training(paths: Paths, channel: Callable[..., Path]) -> None:
    channel("train", [{"prompt": "q", "answer": "1"}, {"prompt": "q"}])
    with pytest.raises(UserError, match=r"answer_column = 'answer': .*1 of 2 rows of train"):
        load_data(paths, parse_config({"method": "grpo"}))
