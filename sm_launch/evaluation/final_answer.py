"""The answer that a solution ends in, taken out before it is compared.

`final` means what the reward exact_answer of the training container means: after GSM8K's ####, in
the last \\boxed{}, or else the last number; equal as text or as numbers. The two share a table of
examples in the tests, as the packages share no code.
"""

from __future__ import annotations

import re

from sm_launch.errors import UserInputError

FINAL = "final"
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
_BOX = "\\boxed{"
_MARK = "####"


def check_pattern(pattern: str | None) -> None:
    """Refuse what is neither `final` nor a regular expression.

    Raises:
        UserInputError: with what is wrong with it.
    """
    if pattern is None or pattern == FINAL:
        return
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise UserInputError(
            f"is no regular expression: {error}",
            field="evaluation.answer_pattern",
            value=pattern,
            fix=f"write {FINAL}, or a pattern such as 'Answer: (.+)'",
        ) from error


def same_answer(given: str, expected: str, pattern: str) -> bool:
    """Whether two texts end in the same answer; one without any is never the same.

    Args:
        given: what the model wrote.
        expected: the reference, from which the answer is taken alike, or which is the answer.
        pattern: `final`, or a regular expression whose first group is the answer.
    """
    if pattern == FINAL:
        left, right = final_answer(given), final_answer(expected)
    else:
        extracted = matched(given, pattern)
        wanted = matched(expected, pattern)
        left, right = _plain(extracted or ""), _plain(expected if wanted is None else wanted)
    try:
        return float(left) == float(right)
    except ValueError:
        return bool(left) and left == right


def final_answer(text: str) -> str:
    """What a solution ends in: after ####, in the last \\boxed{}, else its last number."""
    if _MARK in text:
        text = text.rsplit(_MARK, 1)[1].strip().split("\n")[0]
    elif _BOX in text:
        text = _in_braces(text.rsplit(_BOX, 1)[1])
    elif numbers := _NUMBER.findall(text):
        text = numbers[-1]
    return _plain(text)


def matched(text: str, pattern: str) -> str | None:
    """The first group of the last match, or the match where there is no group; None without one."""
    matches = list(re.finditer(pattern, text, re.DOTALL))
    if not matches:
        return None
    return matches[-1][1 if matches[-1].re.groups else 0] or ""


def _in_braces(text: str) -> str:
    """Up to the brace that closes the one before `text`."""
    depth = 1
    for place, character in enumerate(text):
        depth += {"{": 1, "}": -1}.get(character, 0)
        if depth == 0:
            return text[:place]
    return text


def _plain(text: str) -> str:
    return text.strip().rstrip(".").replace(",", "").removeprefix("$").strip().lower()
