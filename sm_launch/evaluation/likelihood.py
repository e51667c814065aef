"""How probable the model finds the expected answers: loss and perplexity.

As lm-evaluation-harness counts them: blanks that end a prompt belong to the answer, and so does a
token that straddles the two. Where a prompt ends within a word the harness, which cuts by the
number of the prompt's own tokens, may leave such a token out.

Asks the endpoint for the log-probabilities of a text that is given (OpenAI's completions with
`echo` and `logprobs`, as vLLM offers them), or of a conversation with and without its last answer
(text-generation-inference's `decoder_input_details`). Servers that do not offer it say so, and the
evaluation goes on without.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sm_launch.evaluation.client import Sender
from sm_launch.evaluation.example import Example
from sm_launch.evaluation.result import Prediction
from sm_launch.evaluation.task import Statistic
from sm_launch.evaluation.wire import error_message

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LOG_LIKELIHOOD, TOKENS = "log_likelihood", "answer_tokens"
_TRIED = 3
"""Rows that must all fail before the endpoint is said not to score texts."""


class NotOfferedError(ValueError):
    """The endpoint does not tell the log-probabilities of a given text."""


def score_answers(
    sender: Sender,
    examples: Sequence[Example],
    predictions: Sequence[Prediction],
    *,
    concurrency: int,
    advance: Callable[[float], None],
) -> tuple[list[Prediction], list[str]]:
    """The predictions with the log-likelihood of their references, and warnings.

    A few rows are tried first, the shortest, so that a server that cannot do it is asked a few
    times and not for every row. A row that cannot be scored is left out, counted and named.
    """
    known = {example.index: example for example in examples}
    shortest = sorted(predictions, key=lambda p: len(p.text) + len(p.gold))[:_TRIED]
    if reason := _not_offered(sender, [(known[p.index], p) for p in shortest]):
        return list(predictions), [f"no loss or perplexity: {reason}"]

    def score(prediction: Prediction) -> Prediction | str:
        try:
            total, tokens = _log_likelihood(sender, known[prediction.index], prediction)
        except NotOfferedError as reason:
            return f"row {prediction.index}: {reason}"
        values = {**prediction.values, LOG_LIKELIHOOD: total, TOKENS: float(tokens)}
        return replace(prediction, values=values)

    scored, problems = {p.index: p for p in predictions}, []
    with ThreadPoolExecutor(concurrency, thread_name_prefix="likelihood") as pool:
        for outcome in pool.map(score, predictions):
            if isinstance(outcome, str):
                problems.append(outcome)
            else:
                scored[outcome.index] = outcome
            advance(1)
    warnings = []
    if problems:
        warnings.append(f"loss and perplexity are without {len(problems)} rows; {problems[0]}")
    return [scored[p.index] for p in predictions], warnings


def _not_offered(sender: Sender, tried: Sequence[tuple[Example, Prediction]]) -> str:
    """Why none of these could be scored; empty where one was."""
    reason = ""
    for example, prediction in tried:
        try:
            _log_likelihood(sender, example, prediction)
        except NotOfferedError as error:
            reason = reason or str(error)
        else:
            return ""
    return reason


def likelihood_metrics(
    log_likelihood: float, tokens: float, word_count: float, size: float
) -> dict[str, float]:
    """Mean negative log-likelihood of a token, and perplexities of tokens, words and bytes.

    Those of words and bytes do not depend on the tokenizer, so that any two models compare.

    Args:
        log_likelihood: of all answers, in nats.
        tokens: how many the answers have; at least one.
        word_count: as lm-evaluation-harness splits them, by white space.
        size: bytes of UTF-8.
    """

    def perplexity(units: float) -> float:
        nats = -log_likelihood / units
        return math.exp(nats) if nats < 700 else math.inf

    return {
        "loss": -log_likelihood / tokens,
        "perplexity": perplexity(tokens),
        "word_perplexity": perplexity(word_count),
        "byte_perplexity": perplexity(size),
    }


def likelihood_statistic(predictions: Sequence[Prediction]) -> Statistic:
    """Of the rows that were scored: each token, word and byte weighs alike, not each row."""
    import numpy as np

    table = np.array([_counts(p) for p in predictions], dtype=float).reshape(-1, 4)

    def of(rows: NDArray[np.int64]) -> dict[str, float]:
        total, tokens, word_count, size = table[rows].sum(axis=0)
        return likelihood_metrics(total, tokens, word_count, size) if tokens else {}

    return of


def _counts(prediction: Prediction) -> tuple[float, float, int, int]:
    """Log-likelihood, tokens, words and bytes of the expected answer; 0 where it has no score."""
    values, gold = prediction.values, prediction.gold
    if TOKENS not in values:
        return 0.0, 0.0, 0, 0
    word_count = len(re.split(r"\s+", gold))
    return values[LOG_LIKELIHOOD], values[TOKENS], word_count, len(gold.encode())


def _log_likelihood(sender: Sender, example: Example, prediction: Prediction) -> tuple[float, int]:
    """Of the expected answer after its prompt: the sum over its tokens, and how many there are."""
    whole = prediction.text + prediction.gold
    request = {"prompt": whole, "max_tokens": 1, "echo": True, "logprobs": 1, "temperature": 0}
    if example.payload is not None:
        answered = [*example.payload, {"role": "assistant", "content": prediction.gold}]
        asks = {"max_new_tokens": 1, "details": True, "decoder_input_details": True}
        request = {"inputs": [answered, example.payload], "parameters": asks}
    sent = sender.send(json.dumps(request, ensure_ascii=False).encode())
    if sent.reply is None:
        raise NotOfferedError(sent.problem)
    if sent.reply.status != 200:
        reason = error_message(sent.reply)
        raise NotOfferedError(f"the endpoint does not score a given text ({reason})")
    if example.payload is not None:
        return sum_turn(sent.reply.body, prediction.gold)
    return sum_answer(sent.reply.body, len(prediction.text.rstrip()), len(whole))


def sum_answer(body: bytes, start: int, end: int) -> tuple[float, int]:
    """Sum and number of the log-probabilities of tokens that reach into an answer.

    Args:
        body: a completion with `echo` and `logprobs`.
        start: the character at which the answer begins, blanks before it included.
        end: the character after its last; what was generated beyond does not count.

    Raises:
        NotOfferedError: the body has no such log-probabilities.
    """
    try:
        logprobs: Any = json.loads(body)["choices"][0]["logprobs"]
        offsets, values = logprobs["text_offset"], logprobs["token_logprobs"]
        ends = [*offsets[1:], end]
        inside = [
            None if value is None else float(value)
            for offset, stop, value in zip(offsets, ends, values, strict=True)
            if offset < end and (offset >= start or stop > start)
        ]
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise NotOfferedError("the endpoint's answer has no log-probabilities") from error
    told = [value for value in inside if value is not None]
    if inside and not told:
        raise NotOfferedError("the answer is the text's first token, which has no probability")
    if not told:
        raise NotOfferedError("the endpoint gave no log-probability of the expected answer")
    return math.fsum(told), len(told)


def sum_turn(body: bytes, answer: str) -> tuple[float, int]:
    """Sum and number of the log-probabilities of the tokens of a conversation's last answer.

    The marks that the chat template puts around an answer do not count.

    Args:
        body: the details of the conversation, and of the same one without that answer.
        answer: its text.

    Raises:
        NotOfferedError: the body has no such log-probabilities, or shows the answer otherwise.
    """
    try:
        whole, asked = (each["details"]["prefill"] for each in json.loads(body))
        same = [one["id"] == other["id"] for one, other in zip(whole, asked, strict=False)]
        start = [*same, False].index(False)
        letters = [
            (letter, place)
            for place in range(start, len(whole))
            for letter in whole[place]["text"]
            if not letter.isspace()
        ]
        shown = _as_tokens_show(answer).search("".join(letter for letter, _ in letters))
        if shown is None:
            raise NotOfferedError("the chat template shows the answer otherwise")
        first, last = (letters[at][1] for at in (shown.start(), shown.end() - 1))
        told = [float(token["logprob"]) for token in whole[first : last + 1]]
    except NotOfferedError:
        raise
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise NotOfferedError("the endpoint does not tell those of a conversation") from error
    return math.fsum(told), len(told)


def _as_tokens_show(text: str) -> re.Pattern[str]:
    """A text without blanks, of whose other letters tokens may hold parts: a sign for each part."""
    runs = re.findall(r"[\x00-\x7f]+|[^\x00-\x7f]+", "".join(text.split()))
    shown = (re.escape(run) if run.isascii() else f"[{re.escape(run)}\ufffd]+" for run in runs)
    return re.compile("".join(shown))
