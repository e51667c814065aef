"""From prompts to tokens: texts, chat messages by the chat template, token ids."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from sm_serve.engines import loading
from sm_serve.engines.conversations import render
from sm_serve.engines.encoders.long_text import surely_over, tokenize_tail
from sm_serve.engines.generators.languages import SOURCE
from sm_serve.engines.generators.token_text import TokenTexts
from sm_serve.errors import BadPrompt, BadRequest
from sm_serve.protocol import GenerationRequest
from sm_serve.schemas.images import images_in

LONG_PROMPT = 2_000
"""Characters from which on a prompt is tokenized beside the event loop: below, many at once take no
longer than a client of /ping waits."""
RELATIVE_CONTEXT = 4096
"""Tokens for models whose positions are relative (T5): they have no end of their own."""


class PromptReader:
    """A language model's tokenizer and context. Engines may read some prompts in their own way."""

    def __init__(self, config: Any, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.texts = TokenTexts(tokenizer)
        self.context = context_length(config, tokenizer)
        self.vocabulary = int(config.get_text_config().vocab_size)
        self._tokenizing = asyncio.Semaphore(1)  # each takes much memory

    @property
    def chat_template(self) -> str:
        """See the protocol; of several named templates the one for tools."""
        template = self.tokenizer.chat_template or ""
        if isinstance(template, dict):
            template = template.get("tool_use") or template.get("default") or ""
        return str(template)

    def check_images(self, request: GenerationRequest) -> None:
        """BadRequest where messages hold an image that this model or engine does not take."""
        for where, _ in images_in(request.prompt):
            raise BadRequest(
                f"{where} is an image, and this model is served with text alone: leave it out, or"
                " serve one that takes images with SM_SERVE_ENGINE=vllm"
            )

    async def _tokenize(self, request: GenerationRequest) -> list[int]:
        # A tokenizer of languages is changed by each request: one at a time.
        if size_of(request.prompt) >= LONG_PROMPT or SOURCE in request.beams:
            async with self._tokenizing:
                prompt = await asyncio.to_thread(self.encode_prompt, request)
        else:
            prompt = self.encode_prompt(request)
        if not prompt:
            raise BadPrompt("the prompt is empty: give at least one token of text")
        prompt = prompt[-request.truncate :] if request.truncate else prompt
        self._check_vocabulary(prompt)
        return prompt

    def _check_vocabulary(self, prompt: list[int]) -> None:
        """Refuses what the model has no row for: it would fail all of its batch."""
        if (beyond := max(prompt)) >= self.vocabulary:
            raise BadPrompt(
                f"the tokenizer reads {self.token_text(beyond)!r} as token {beyond}, and the"
                f" model's vocabulary ends at {self.vocabulary - 1}: leave it out, or serve a"
                " model that was resized to its tokenizer"
            )

    async def tokens(self, request: GenerationRequest) -> list[int]:
        """See TokenReader."""
        self.check_images(request)
        return await self._tokenize(request)

    def token_text(self, token: int) -> str:
        """See TokenReader."""
        return self.texts.name(token)

    def text_of(self, tokens: Sequence[Any]) -> str:
        """See TokenReader."""
        return self.texts.read(self._check_ids(list(tokens), None)) if tokens else ""

    def encode_prompt(self, request: GenerationRequest) -> list[int]:
        """Token ids of a text, of chat messages by the chat template, or those given."""
        prompt = request.prompt
        if isinstance(prompt, str):
            return self.encode_text(prompt, request)
        if prompt and isinstance(prompt[0], int):
            return self._check_ids(prompt, request.truncate)
        options = {
            **request.template_variables,
            "add_generation_prompt": not request.continue_final_message,
            "continue_final_message": request.continue_final_message,
        }
        if template := self.template_of(request):
            options["chat_template"] = template
        messages = self.template_messages(request)
        text = render(self.tokenizer, messages, request.tools, options)
        # As apply_chat_template itself would go on: the template writes special tokens.
        ids = self._encode_text(text, request.truncate, add_special_tokens=False)
        if prefix := self.answer_prefix(text, request):
            return [*ids, *self.tokenizer(prefix, add_special_tokens=False)["input_ids"]]
        return ids

    def template_of(self, request: GenerationRequest) -> str | None:
        """The chat template, where it is not the tokenizer's."""
        return None

    def answer_prefix(self, prompt: str, request: GenerationRequest) -> str:
        """What an answer to messages begins with already, behind their `prompt`."""
        return request.answer_prefix

    def template_messages(self, request: GenerationRequest) -> Any:
        """The messages as the chat template takes them."""
        return request.prompt

    def encode_text(self, text: str, request: GenerationRequest) -> list[int]:
        """The tokens of a text that is the whole prompt."""
        return self._encode_text(text, request.truncate)

    def _encode_text(self, text: str, truncate: int | None, **options: Any) -> list[int]:
        """A text's tokens: none of a far too long one, the last alone of one to be cut."""
        if truncate:
            return tokenize_tail(self.tokenizer, text, truncate, **options)
        if surely_over(self.tokenizer, text, self.context):
            raise self._too_long(f"over {self.context}")
        ids: list[int] = self.tokenizer(text, **options)["input_ids"]
        return ids

    def _check_ids(self, prompt: list[Any], truncate: int | None) -> list[int]:
        if len(prompt) > self.context and not truncate:
            raise self._too_long(str(len(prompt)))
        for index, token in enumerate(prompt):
            if type(token) is not int or not 0 <= token < self.vocabulary:
                raise BadPrompt(
                    f"token {index} of the prompt is {token!r}: give ids from 0 to"
                    f" {self.vocabulary - 1}"
                )
        return list(prompt)

    def _too_long(self, tokens: str) -> BadPrompt:
        return BadPrompt(
            f"the prompt has {tokens} tokens, the model's context is {self.context}: shorten the"
            " prompt",
            code="context_length_exceeded",
        )


def size_of(prompt: Any) -> int:
    """About how many characters there are to tokenize."""
    if isinstance(prompt, str):
        return len(prompt)
    if prompt and isinstance(prompt[0], dict):
        return sum(len(str(message.get("content"))) for message in prompt) + len(prompt)
    return len(prompt)


def context_length(config: Any, tokenizer: Any) -> int:
    """Tokens of prompt and answer together that the model can take."""
    text_config = config.get_text_config()
    if hasattr(text_config, "relative_attention_num_buckets"):
        return RELATIVE_CONTEXT
    for name in ("max_position_embeddings", "n_positions", "max_seq_len"):
        value = getattr(text_config, name, None)
        if isinstance(value, int) and value > 0:
            return value
    length = tokenizer.model_max_length
    return int(length) if 0 < length < loading.UNSET_LENGTH else 4096
