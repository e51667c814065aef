"""What the front asks of an engine. torch and transformers are never imported here."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol, runtime_checkable


class Task(StrEnum):
    """What a model does, by the names that Hugging Face endpoints use (HF_TASK)."""

    TEXT_CLASSIFICATION = "text-classification"
    TOKEN_CLASSIFICATION = "token-classification"  # noqa: S105 - not a password
    QUESTION_ANSWERING = "question-answering"
    EMBEDDING = "feature-extraction"
    FILL_MASK = "fill-mask"
    TEXT_GENERATION = "text-generation"
    CUSTOM = "custom"


@runtime_checkable
class Engine(Protocol):
    """Every engine: a task, a truthful health, an end."""

    @property
    def task(self) -> Task:
        """The task of the loaded model."""
        ...

    def health(self) -> str | None:
        """None when requests will be answered, else why not. Must return at once."""
        ...

    def stats(self) -> Mapping[str, float]:
        """Gauges for /metrics, by Prometheus name without prefix."""
        ...

    def close(self) -> None:
        """Stops threads and drops the model; idempotent."""
        ...


def is_mending(engine: Engine | None) -> bool:
    """Whether an engine that is broken is being started again (`mending`, where it can be)."""
    return bool(getattr(engine, "mending", False))


NO_MASK = "no_mask_token"
"""Code of the refusal of a text in which nothing is to be filled in."""
ADAPTER = "adapter_id"
"""The parameter that names the adapter to answer with."""


@runtime_checkable
class Predictor(Engine, Protocol):
    """An encoder: one result for each input, in order."""

    async def predict(self, inputs: Sequence[Any], parameters: Mapping[str, Any]) -> list[Any]:
        """Raises BadRequest for inputs or parameters it cannot serve. Cancellable."""
        ...


LEAST_TEMPERATURE = 2.0**-126
"""float32's least normal number: scores divided by less are no numbers."""


class ConstraintKind(StrEnum):
    """What an answer can be held to."""

    JSON_SCHEMA = "json_schema"
    REGEX = "regex"
    CHOICE = "choice"
    GRAMMAR = "grammar"


@dataclass(frozen=True, slots=True)
class Constraint:
    """What the answer must be: `value` is a JSON schema or list of texts as JSON, else the text."""

    kind: ConstraintKind
    value: str
    field: str = "constraint"
    """The client's name for it, for messages."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen. `temperature` 0 means greedy, as does less than
    float32 has; `top_k` 0 and `top_p` 1 mean off.

    Frequency and presence penalties count the answer's tokens alone, the repetition penalty the
    prompt's too. `logprobs` is how many alternatives to tell with each token's own, None for
    neither; `prompt_logprobs` the same of the prompt's tokens.
    """

    max_new_tokens: int | None = None
    min_new_tokens: int = 0
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    constraint: Constraint | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False
    logprobs: int | None = None
    prompt_logprobs: int | None = None

    @property
    def greedy(self) -> bool:
        """Whether the most probable token is always taken."""
        return self.temperature < LEAST_TEMPERATURE or self.top_k == 1

    def nth(self, n: int) -> Sampling:
        """That of the n-th of several answers: a seed must not make them all the same."""
        return self if self.seed is None or n == 0 else replace(self, seed=self.seed + n)


UNTOLD = Sampling(temperature=1.0)
"""How tokens are chosen where neither the request nor the model's authors say."""


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One prompt: a text, chat messages, or token ids.

    `beams` are parameters of `generate` alone, by its names, and `src_lang` and `tgt_lang` of a
    translation. What they leave open is, `as_pipeline`, as Hugging Face's pipeline of the task has
    it: the model's own `num_beams`, prefix and languages. Of a search the best `sequences` are
    told. `cut` keeps the beginning of what is longer than the model reads. `template_variables`
    are for the chat template. `echo` asks for the prompt's text
    as well; `answer_prefix` is what the answer to messages begins with already; of a longer prompt
    only the last `truncate` tokens are read.
    """

    prompt: str | list[int] | list[dict[str, Any]]
    sampling: Sampling = field(default_factory=Sampling)
    stream: bool = False
    tools: list[dict[str, Any]] | None = None
    continue_final_message: bool = False
    template_variables: Mapping[str, Any] = field(default_factory=dict)
    adapter: str | None = None
    echo: bool = False
    answer_prefix: str = ""
    truncate: int | None = None
    beams: Mapping[str, Any] = field(default_factory=dict)
    as_pipeline: bool = False
    sequences: int = 1
    cut: bool = False


WARM_UP = GenerationRequest("warm up", Sampling(max_new_tokens=2))
"""What a server asks its own language model, before the first client and when it seems broken."""


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token with its log probability before temperature, penalties and constraint.

    A prompt's first token has none. `offset` is where in the text the token begins; a `special` one
    is no part of it.
    """

    token: int
    logprob: float | None
    text: str = ""
    top: tuple[TokenLogprob, ...] = ()
    offset: int = 0
    special: bool = False


@dataclass(frozen=True, slots=True)
class Echo:
    """The prompt as the model read it: its text where that was asked for, its log probabilities."""

    text: str = ""
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of the answer. The last piece, and only it, has a finish reason; the first, the echo.

    `finish_reason` is `stop` (end of sequence, or with `cut` a stop string) or `length`, as in
    OpenAI's API. A search gives whole answers, the best one first, each with its `index`. Of a
    chat whose thoughts are to be told apart, `opened` is how the prompt begins the answer: the tag
    of a thought, a message's header (see sm_serve.schemas.harmony), or nothing; `tags` are those
    around a thought.
    """

    text: str
    tokens: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    finish_reason: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    echo: Echo | None = None
    cut: bool = False
    index: int = 0
    opened: str | None = None
    tags: tuple[str, str] = ("<think>", "</think>")


@runtime_checkable
class Generator(Engine, Protocol):
    """A language model."""

    @property
    def chat_template(self) -> str:
        """How messages and tools are written for the model; empty where it does not chat."""
        ...

    @property
    def defaults(self) -> Sampling:
        """How the model's authors want tokens chosen, where a request leaves it open."""
        ...

    def generate(self, request: GenerationRequest) -> AsyncIterator[Delta]:
        """Yields pieces as they come when `request.stream`, else one.

        Closing the iterator cancels the request. Raises BadRequest for what it cannot serve.
        """
        ...


@runtime_checkable
class TokenReader(Protocol):
    """A language model that tells of its tokens."""

    @property
    def context(self) -> int:
        """Most tokens of prompt and answer together."""
        ...

    async def tokens(self, request: GenerationRequest) -> list[int]:
        """A prompt's tokens as the model reads them. Raises BadRequest."""
        ...

    def token_text(self, token: int) -> str:
        """A token as a client reads it."""
        ...

    def text_of(self, tokens: Sequence[Any]) -> str:
        """The text of tokens. Raises BadRequest for what is none."""
        ...


@runtime_checkable
class AdapterHost(Protocol):
    """An engine with several LoRA adapters, one chosen by each request."""

    def adapters(self) -> Sequence[str]:
        """Names of those loaded, sorted."""
        ...

    async def load_adapter(self, name: str, path: Path) -> None:
        """Loads an adapter's directory while requests are answered.

        Raises Conflict where the name is taken, BadRequest for what cannot be loaded, OutOfMemory
        where there is no room.
        """
        ...

    async def unload_adapter(self, name: str) -> None:
        """Drops an adapter once its requests are answered. Raises NotFound."""
        ...
