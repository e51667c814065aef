"""How probable the model finds the expected answers: loss and perplexity.

Asks the endpoint for the log-probabilities of a text that is given (OpenAI's completions with
`echo` and `logprobs`, as vLLM offers them). Servers that do not offer it say so, and the evaluation
goes on without.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from sm_launch.evaluation.client import Sender
from sm_launch.evaluation.examples import Example
from sm_launch.evaluation.result import Prediction
from sm_launch.evaluation.wire import error_message

LOG_LIKELIHOOD, TOKENS = "log_likelihood", "answer_tokens"


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

    One row is tried first, so that a server that cannot do it is asked once.
    """
    known = {example.index: example for example in examples}
    wanted = [p for p in predictions if known[p.index].payload is None]
    if not wanted:
        return list(predictions), ["no loss or perplexity: they need prompts, not messages"]
    try:
        _log_likelihood(sender, wanted[0])
    except NotOfferedError as reason:
        return list(predictions), [f"no loss or perplexity: {reason}"]

    def score(prediction: Prediction) -> Prediction | str:
        try:
            total, tokens = _log_likelihood(sender, prediction)
        except NotOfferedError as reason:
            return f"row {prediction.index}: {reason}"
        values = {**prediction.values, LOG_LIKELIHOOD: total, TOKENS: float(tokens)}
        return replace(prediction, values=values)

    scored, problems = {p.index: p for p in predictions}, []
    with ThreadPoolExecutor(concurrency, thread_name_prefix="likelihood") as pool:
        for found in pool.map(score, wanted):
            if isinstance(found, str):
                problems.append(found)
            else:
                scored[found.index] = found
            advance(1)
    missed = len(predictions) - len(wanted) + len(problems)
    first = f"; {problems[0]}" if problems else ""
    warnings = [f"loss and perplexity are without {missed} rows{first}"] if missed else []
    return [scored[p.index] for p in predictions], warnings


def loss_and_perplexity(log_likelihood: float, tokens: float) -> dict[str, float]:
    """Mean negative log-likelihood of a token, and its exponential."""
    loss = -log_likelihood / tokens
    return {"loss": loss, "perplexity": math.exp(loss) if loss < 700 else math.inf}


def _log_likelihood(sender: Sender, prediction: Prediction) -> tuple[float, int]:
    """Of the expected answer after its prompt: the sum over its tokens, and how many there are."""
    whole = prediction.text + prediction.gold
    request = {"prompt": whole, "max_tokens": 1, "echo": True, "logprobs": 1, "temperature": 0}
    sent = sender.send(json.dumps(request, ensure_ascii=False).encode())
    if sent.reply is None:
        raise NotOfferedError(sent.problem)
    if sent.reply.status != 200:
        words = error_message(sent.reply)
        raise NotOfferedError(f"the endpoint does not score a given text ({words})")
    return _sum(sent.reply.body, len(prediction.text), len(whole))


def _sum(body: bytes, start: int, end: int) -> tuple[float, int]:
    try:
        found: Any = json.loads(body)["choices"][0]["logprobs"]
        pairs = zip(found["text_offset"], found["token_logprobs"], strict=True)
        inside = [float(value) for offset, value in pairs
                  if start <= offset < end and value is not None]  # fmt: skip
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise NotOfferedError("the endpoint's answer has no log-probabilities") from error
    if not inside:
        raise NotOfferedError("the endpoint gave no log-probability of the expected answer")
    return math.fsum(inside), len(inside)
