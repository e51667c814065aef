"""Whether a backend gives the answers of `generate`, tried at the start.

Paged attention does not fit every architecture: some fail in it, some quietly answer something else
(what their layers do beyond plain attention is left out). No list of names keeps up with that.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from sm_serve.engines.generators.defaults import greedy_config

PROMPT_LENGTHS = (5, 40)
"""Together in one batch, the longer one over the end of a page."""
ANSWER_TOKENS = 4
ROUNDING = 0.25
"""Scores this near each other, in standard deviations of all, are equal but for rounding."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A prompt, what `generate` answers, and the scores of all tokens at each step."""

    prompt: list[int]
    answer: list[int]
    scores: Any

    def passed(self, answer: list[int]) -> bool:
        """Whether an answer is that of `generate`, or leaves it where rounding may decide."""
        for step, (mine, theirs) in enumerate(zip(self.answer, answer, strict=False)):
            if mine != theirs:
                scores = self.scores[step][0].float()
                return bool((scores[mine] - scores[theirs]).abs() < ROUNDING * scores.std())
        return len(answer) == len(self.answer)


def prepare(model: Any, context: int) -> list[Trial]:
    """Asks `generate`, which must be done before another backend changes the model."""
    import torch

    chance = random.Random(1)  # noqa: S311 - any tokens do
    vocabulary = int(model.config.get_text_config().vocab_size)
    trials = []
    for wanted in PROMPT_LENGTHS:
        length = max(min(wanted, context - ANSWER_TOKENS), 1)
        prompt = [chance.randrange(vocabulary) for _ in range(length)]
        ids = torch.tensor([prompt], device=model.device)
        with torch.inference_mode():
            output = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                generation_config=greedy_config(model),
                max_new_tokens=ANSWER_TOKENS,
                pad_token_id=0,
                output_logits=True,
                return_dict_in_generate=True,
            )
        trials.append(Trial(prompt, output.sequences[0, length:].tolist(), output.logits))
    return trials


def run(trials: list[Trial], answer: Callable[[list[int]], AsyncIterator[Any]]) -> bool:
    """Whether a backend, whose chunks of tokens `answer` yields, passes. Raises what it raises."""

    async def one(trial: Trial) -> bool:
        tokens = [token async for chunk in answer(trial.prompt) for token in chunk.tokens]
        return trial.passed(tokens)

    async def every() -> list[bool]:
        return await asyncio.gather(*map(one, trials))

    return all(asyncio.run(every()))
