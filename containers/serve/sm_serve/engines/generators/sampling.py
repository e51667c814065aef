"""Choosing the next token, request by request, in a batch of any mixture.

Both backends of transformers take the most probable token of the scores that they are given. So
each row whose request wants anything else gets its token chosen here and raised above all others;
plain greedy rows are left alone. Greedy answers thus equal `generate` token by token, and a seed
gives the same answer, however the batch is mixed and whichever backend runs it.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping, Sequence
from typing import Any

from sm_serve.engines.generators.grammar import TOO_COMPLEX
from sm_serve.protocol import Sampling, TokenLogprob

logger = logging.getLogger(__name__)

REQUEST_CHOICE = "choice"
"""Name under which a request of a continuous batch carries its Choice."""


NOT_NUMBERS = (
    "the model's scores are not numbers (NaN): its weights are damaged, or its precision too low"
)
LEAST_LOGPROB = -9999.0
"""Told for what is impossible: JSON has no infinity."""


class Choice:
    """How one request chooses, and what it has chosen so far."""

    def __init__(
        self,
        sampling: Sampling,
        prompt: Sequence[int] = (),
        eos: frozenset[int] = frozenset(),
        matcher: Any = None,
        processors: Any = None,
    ) -> None:
        self.sampling = sampling
        self.adapter: str | None = None
        self.options: Mapping[str, Any] = {}
        self.logprobs: list[TokenLogprob] = []
        self.failure: str | None = None
        self.count = 0
        self.plain = matcher is None and not processors and is_plain(sampling)
        self._prompt = prompt
        self._eos = sorted(eos)
        self._matcher = matcher
        self._processors = processors
        self._answer: list[int] = []
        self._seen: Any = None
        self._counts: Any = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Choice:
        """An evicted request is resumed as a copy, which goes on where this one was."""
        return self

    def process(self, scores: Any) -> Any:
        """One row of logits after everything but temperature and what follows it."""
        import torch

        sampling = self.sampling
        if self._processors:
            read = torch.tensor([[*self._prompt, *self._answer]], device=scores.device)
            scores = self._processors(read, scores.unsqueeze(0).clone())[0]
        if sampling.repetition_penalty != 1.0:
            if self._seen is None:
                self._seen = torch.zeros_like(scores, dtype=torch.bool)
                self._seen[list(self._prompt)] = True
            penalty = sampling.repetition_penalty
            changed = torch.where(scores < 0, scores * penalty, scores / penalty)
            scores = torch.where(self._seen, changed, scores)
        if self._counts is not None:
            scores = scores - sampling.frequency_penalty * self._counts
            scores = scores - sampling.presence_penalty * (self._counts > 0)
        if sampling.logit_bias:
            tokens, values = zip(*sampling.logit_bias, strict=True)
            scores = scores.clone()
            scores[list(tokens)] += torch.tensor(values, device=scores.device)
        if self._eos and self.count < sampling.min_new_tokens:
            scores = scores.clone()
            scores[self._eos] = float("-inf")
        return self._constrain(scores)

    def _constrain(self, scores: Any) -> Any:
        """Without what the constraint forbids; only the end of sequence once it has failed."""
        import numpy
        import torch

        if self._matcher is None:
            return scores
        size = scores.shape[-1]
        allowed = numpy.zeros(size, dtype=bool)
        bits = numpy.unpackbits(
            numpy.frombuffer(self._matcher.compute_bitmask(), dtype=numpy.uint8), bitorder="little"
        )[:size]
        allowed[: len(bits)] = bits
        if self._matcher.is_error() or not allowed.any():
            self.failure = self.failure or TOO_COMPLEX
            allowed[:] = False
            allowed[self._eos] = True
        mask = torch.from_numpy(allowed).to(scores.device)
        return scores.masked_fill(~mask, float("-inf"))

    def accept(self, token: int, scores: Any) -> None:
        """Remembers a chosen token; `scores` are the row's logits before `process`."""
        sampling = self.sampling
        self.count += 1
        if self._processors:
            self._answer.append(token)
        if self._seen is not None:
            self._seen[token] = True
        if sampling.frequency_penalty or sampling.presence_penalty:
            if self._counts is None:
                self._counts = scores.new_zeros(scores.shape)
            self._counts[token] += 1
        if self._matcher is not None and self.failure is None:
            self._matcher.consume_token(token)
        if sampling.logprobs is not None:
            self.logprobs.append(read_logprobs(scores, token, sampling.logprobs))

    def fail(self, error: Exception) -> None:
        """An error of this request's alone, which the others of its batch are to be kept from."""
        if self.failure is None:
            logger.error("a token could not be chosen", exc_info=error)
            self.failure = f"generation failed ({type(error).__name__})"

    def uniform(self) -> float:
        """A number from 0 to 1: with a seed it depends on seed and position alone."""
        seed = self.sampling.seed
        if seed is None:
            return random.random()  # noqa: S311 - no secret is made of it
        return random.Random(f"{seed}:{self.count}").random()  # noqa: S311


def is_plain(sampling: Sampling) -> bool:
    """Whether the most probable token is wanted and nothing is asked about it."""
    return (
        sampling.greedy
        and sampling.repetition_penalty == 1.0
        and not sampling.frequency_penalty
        and not sampling.presence_penalty
        and not sampling.logit_bias
        and not sampling.min_new_tokens
        and sampling.logprobs is None
    )


def read_logprobs(scores: Any, token: int, count: int) -> TokenLogprob:
    """The log probability of a token and of the `count` most probable ones."""
    values = scores.log_softmax(-1).clamp(min=LEAST_LOGPROB)
    top: tuple[TokenLogprob, ...] = ()
    if count:
        best = values.topk(min(count, values.numel()))
        pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        top = tuple(TokenLogprob(index, value) for index, value in pairs)
    return TokenLogprob(token, float(values[token]), top=top)


def choose(scores: Any, choices: Sequence[Choice]) -> Any:
    """The scores with each row's own choice made its most probable token."""
    import torch

    # A batch may be filled up: rows beyond the last choice are nobody's.
    for choice, best in zip(choices, scores[: len(choices)].amax(-1).tolist(), strict=True):
        if best != best:  # noqa: PLR0124 - only NaN differs from itself, and it is the largest
            choice.failure = NOT_NUMBERS
    rows = [index for index, choice in enumerate(choices) if not choice.plain]
    if not rows:
        return scores
    mine = [choices[index] for index in rows]
    raw = scores[rows]
    processed = list(raw)
    for place, (choice, row) in enumerate(zip(mine, raw, strict=True)):
        try:
            processed[place] = choice.process(row)
        except Exception as error:
            choice.fail(error)
    tokens = pick(torch.stack(processed), mine)
    for choice, token, row in zip(mine, tokens, raw, strict=True):
        try:
            choice.accept(token, row)
        except Exception as error:
            choice.fail(error)
    scores[rows, tokens] = float("inf")
    return scores


def pick(scores: Any, choices: Sequence[Choice]) -> list[int]:
    """A token for each row: drawn for those that sample, the most probable one for the rest.

    Rows are drawn in two groups, as cutting off the improbable needs the scores in order.
    """
    tokens: list[int] = scores.argmax(dim=-1).tolist()
    for cut in (False, True):
        rows = [
            index
            for index, choice in enumerate(choices)
            if not choice.sampling.greedy and cuts(choice.sampling) is cut
        ]
        if rows:
            drawn = draw(scores[rows], [choices[index] for index in rows], cut=cut)
            for row, token in zip(rows, drawn, strict=True):
                tokens[row] = token
    return tokens


def cuts(sampling: Sampling) -> bool:
    """Whether improbable tokens are cut off."""
    return bool(sampling.top_k or sampling.top_p < 1.0 or sampling.min_p)


def draw(scores: Any, choices: Sequence[Choice], *, cut: bool) -> list[int]:
    """Draws by inverse transform: one uniform number a row picks a place in the distribution."""
    import torch

    def column(values: list[float]) -> Any:
        return torch.tensor(values, device=scores.device).unsqueeze(-1)

    samplings = [choice.sampling for choice in choices]
    # From the best one down, as a low temperature would lift scores over the type's largest number.
    scores = scores - scores.amax(-1, keepdim=True)
    scores = scores / column([s.temperature for s in samplings])
    order = None
    if cut:
        widths = [s.top_k or scores.shape[-1] for s in samplings]
        scores, order = scores.topk(min(max(widths), scores.shape[-1]), dim=-1)
        ranks = torch.arange(scores.shape[-1], device=scores.device)
        scores = scores.masked_fill(ranks >= column(widths), float("-inf"))
        chances = scores.softmax(-1)
        before = chances.cumsum(-1) - chances
        out = before >= column([s.top_p if s.top_p < 1.0 else 2.0 for s in samplings])
        out |= chances < chances[:, :1] * column([s.min_p for s in samplings])
        scores = scores.masked_fill(out, float("-inf"))
    sums = scores.softmax(-1).cumsum(-1)
    wanted = sums[:, -1:] * column([choice.uniform() for choice in choices])
    places = (sums <= wanted).sum(-1, keepdim=True)
    # Rounding may lead past the end, to where nothing has a chance.
    best = scores.argmax(-1, keepdim=True)
    places = torch.where(places < scores.shape[-1], places, best)
    chosen = places if order is None else order.gather(-1, places)
    token_ids: list[int] = chosen.squeeze(-1).tolist()
    return token_ids


def build_processor() -> Any:
    """The processor of a continuous batch; a function, as its base class imports torch."""
    import torch
    from transformers.generation.continuous_batching.cb_logits_processors import (
        ContinuousBatchingLogitsProcessor,
    )

    class RequestSampling(ContinuousBatchingLogitsProcessor):  # type: ignore[misc]
        """Applies each row's own Choice. Rows are kept from preparation to the next call."""

        supported_kwargs = {REQUEST_CHOICE: Choice}  # noqa: RUF012 - transformers' interface
        ignored_kwargs = ()

        def __init__(self) -> None:
            self._rows: list[Any] = []

        def fill_defaults(self, int32_tensor: Any) -> None:
            int32_tensor.zero_()

        def prepare_tensor_args(self, requests_with_new_token: list[Any]) -> Any:
            self._rows = [request.state for request in requests_with_new_token]
            return torch.zeros(len(self._rows), dtype=torch.int32)

        def __call__(self, scores: Any, tensor_arg: Any) -> Any:
            plain = Choice(Sampling())
            choices = [s.logit_processor_kwargs.get(REQUEST_CHOICE, plain) for s in self._rows]
            return choose(scores, choices)

    return RequestSampling()
