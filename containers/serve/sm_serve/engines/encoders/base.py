"""What all encoder engines share: tokenizing, padding, one batched forward pass."""

from __future__ import annotations

import contextlib
import threading
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from sm_serve.artefact.artefact import Artefact
from sm_serve.config import Settings
from sm_serve.engines import loading
from sm_serve.engines.adapters.encoder_lora import EncoderLoraAdapters
from sm_serve.engines.adapters.host import LoraHost
from sm_serve.engines.adapters.lora import SPOILT
from sm_serve.engines.conversations import rendered
from sm_serve.engines.devices import on_device
from sm_serve.engines.encoders.batching import Batcher
from sm_serve.engines.encoders.flows import BatchLimits
from sm_serve.engines.encoders.long_text import tokenize_heads
from sm_serve.engines.encoders.onnx import OnnxModel
from sm_serve.engines.encoders.onnx import load as load_onnx
from sm_serve.engines.encoders.unpadding import remove_padding
from sm_serve.engines.processors import Processors, choose_replicas, twin
from sm_serve.errors import BadInput, BadRequest, EngineError, StartupError
from sm_serve.protocol import ADAPTER, Task

TRUNCATIONS = ("longest_first", "only_first", "only_second", "do_not_truncate")
Tokens = dict[str, Any]
"""Columns of one tokenized input: input_ids and what else the model reads, plus extras."""


class EncoderEngine(LoraHost):
    """An encoder behind a batcher. Subclasses say how inputs are tokenized and outputs read."""

    task: Task
    learnt_as: tuple[str, ...] = ()
    """Training methods whose models this engine serves, as config.json names them."""
    lora: EncoderLoraAdapters
    warm_up_input: Any = "warm up"

    def __init__(self, model: Any, tokenizer: Any, settings: Settings) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.max_length = loading.max_length(model.config, tokenizer)
        self._learnt_length = loading.learnt_length(model.config, self.learnt_as, self.max_length)
        self._columns = [n for n in tokenizer.model_input_names if n != "attention_mask"]
        self._pad = {"input_ids": self._pad_id(), "token_type_ids": 0}
        limits = BatchLimits(
            items=settings.batch_size,
            tokens=settings.batch_tokens,
            delay=settings.batch_delay,
            stall=settings.stall_timeout,
            padded=not (isinstance(model, OnnxModel) or remove_padding(model)),
        )
        self.lora = EncoderLoraAdapters(model, settings.max_adapters, self.task, self.read_profile)
        self.own_profile: Any = None
        self._running = threading.Lock()
        self._tokenizing = threading.Lock()
        self._processors: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext
        self._batcher: Batcher[Tokens] = Batcher(
            self._encode_alone, self._run, limits, name=f"sm-serve-{self.task}", mark=_mark
        )

    @property
    def usual_length(self) -> int:
        """To how many tokens an input is cut where the request says nothing."""
        return min(self._learnt_length, self.max_length)

    @classmethod
    def load(cls, artefact: Artefact, settings: Settings) -> Self:
        """Loads model, tokenizer and adapters; StartupError says what the artefact lacks."""
        return cls.load_replicas(artefact, replace(settings, replicas=1))[0]

    @classmethod
    def load_replicas(cls, artefact: Artefact, settings: Settings) -> list[Self]:
        """The same, as often as batches are to be computed at a time, over one copy of the weights.

        Each has modules and adapters of its own, so that what a batch changes is no other's. They
        share a batch's size too: with a part of the processors it takes as long as one of all.
        """
        import torch

        tokenizer = loading.load_tokenizer(artefact, settings)
        if artefact.onnx is not None:
            model, gaps = load_onnx(artefact, settings), frozenset[str]()
            # It has threads of its own, and nothing in it that could be changed.
            models = [model] * (settings.replicas or settings.workers or 1)
        else:
            model, gaps = loading.load_with_gaps(artefact, settings)
            models = [model, *(twin(model) for _ in range(choose_replicas(model, settings) - 1))]
        count = len(models)
        part = replace(
            settings,
            batch_size=-(-settings.batch_size // count),
            batch_tokens=-(-settings.batch_tokens // count),
        )
        engines = [cls(each, tokenizer, part) for each in models]
        processors = Processors(torch.get_num_threads())
        for engine in engines:
            engine.lora.gaps = gaps
            engine.own_profile = engine.profile_of(artefact)
            engine.load_all(artefact.adapters)
            engine._tokenizing = engines[0]._tokenizing
            if count > 1:
                engine._processors = processors.share
        return engines

    def profile_of(self, artefact: Artefact) -> Any:
        """What must be known to read the outputs of the base model."""
        return self.own_profile

    def read_profile(self, path: Path) -> Any:
        """The same for an adapter's directory. Raises StartupError."""
        return self.own_profile

    def paused(self) -> AbstractContextManager[Any]:
        """See LoraHost."""
        return self._running

    def _load(self, name: str, path: Path) -> None:
        if isinstance(self.model, OnnxModel):
            raise BadRequest(
                "this model is an ONNX file, which takes no adapters: deploy the artefact that it"
                " was made from"
            )
        super()._load(name, path)

    def _pad_id(self) -> int:
        """Padding token; a decoder with a classification head finds its last token by it."""
        pad = self.tokenizer.pad_token_id
        if pad is None:
            pad = self.tokenizer.eos_token_id
        if pad is None:
            raise StartupError("the tokenizer has neither a padding nor an end-of-sequence token")
        if self.model.config.pad_token_id is None:
            self.model.config.pad_token_id = pad
        return int(pad)

    async def predict(self, inputs: Sequence[Any], parameters: Mapping[str, Any]) -> list[Any]:
        """One result an input; see the protocol."""
        adapter = parameters.get(ADAPTER) or None
        if adapter is not None and not isinstance(adapter, str):
            raise BadRequest(f"parameters.{ADAPTER}={adapter!r}: give a text")
        rest = {name: value for name, value in parameters.items() if name != ADAPTER}
        with self.lora.using(adapter):
            return await self.answer(inputs, rest, adapter)

    @abstractmethod
    async def answer(
        self, inputs: Sequence[Any], parameters: Mapping[str, Any], adapter: str | None
    ) -> list[Any]:
        """Checks the parameters, submits the inputs, writes the results."""

    async def submit(
        self, inputs: Sequence[Any], parameters: Mapping[str, Any], adapter: str | None
    ) -> list[Any]:
        """What `read` gives for each input."""
        return await self._batcher.submit(inputs, {**parameters, ADAPTER: adapter})

    def profile(self, adapter: str | None) -> Any:
        """What must be known to read an adapter's outputs."""
        return self.lora.profile(adapter, self.own_profile)

    def health(self) -> str | None:
        """See the protocol."""
        return self._batcher.health()

    def stats(self) -> dict[str, float]:
        """See the protocol."""
        return self._batcher.stats()

    def close(self) -> None:
        """See the protocol."""
        self._batcher.close()

    def _run(self, items: list[Tokens]) -> list[Any]:
        adapter = items[0][ADAPTER]
        with (
            self._running,
            self._processors(),
            self.lora.through(adapter),
            on_device(self.model.device),
        ):
            results = self._forward(items)
        if adapter is not None and self.lora.spoilt(adapter):
            raise EngineError(SPOILT)
        return results

    def _encode_alone(
        self, inputs: Sequence[Any], parameters: Mapping[str, Any]
    ) -> list[tuple[int, Tokens]]:
        """Replicas share a tokenizer, and each call sets how it cuts."""
        with self._tokenizing:
            return self.encode(inputs, parameters)

    def encode(
        self, inputs: Sequence[Any], parameters: Mapping[str, Any]
    ) -> list[tuple[int, Tokens]]:
        """Tokenizes texts, text pairs or conversations, cut to the length that the model has learnt
        (else to what it can read) unless truncation is off."""
        conversations = rendered(self.tokenizer, inputs)
        first, second = (conversations, None) if conversations else split_pairs(inputs)
        # A chat template writes special tokens itself.
        options = {"add_special_tokens": False} if conversations else {}
        truncation = read_truncation(parameters)
        longest = read_max_length(parameters, self.usual_length, self.max_length)
        try:
            if second is None and truncation is True:
                batch = tokenize_heads(self.tokenizer, first, longest, **options)
            else:
                batch = self.tokenizer(
                    first, second, truncation=truncation, max_length=longest, **options
                )
        except Exception as error:
            if "Truncation error" not in str(error):
                raise
            raise BadRequest(
                f"parameters.truncation={truncation!r} cannot cut an input to {longest} tokens:"
                " leave it at true"
            ) from error
        rows = []
        for index, ids in enumerate(batch["input_ids"]):
            if len(ids) > self.max_length:
                raise BadInput(
                    index,
                    f" has {len(ids)} tokens, the model reads {self.max_length}: shorten it or"
                    " leave parameters.truncation at true",
                )
            if not ids:
                raise BadInput(index, " is empty: give a text")
            rows.append((len(ids), {name: batch[name][index] for name in self._columns}))
        return rows

    def pad(self, items: list[Tokens]) -> dict[str, Any]:
        """Tensors of a batch on the model's device, padded to its longest item."""
        import numpy
        import torch

        lengths = [len(item["input_ids"]) for item in items]
        shape = len(items), max(lengths)
        left = self.tokenizer.padding_side == "left"
        places = [slice(shape[1] - n, None) if left else slice(n) for n in lengths]
        columns = {name: numpy.full(shape, self._pad.get(name, 0)) for name in self._columns}
        mask = numpy.zeros(shape, numpy.int64)
        for row, (item, place) in enumerate(zip(items, places, strict=True)):
            mask[row, place] = 1
            for name, column in columns.items():
                column[row, place] = item[name]
        tensors = {**columns, "attention_mask": mask}
        return {
            name: torch.from_numpy(each).to(self.model.device) for name, each in tensors.items()
        }

    def _forward(self, items: list[Tokens]) -> list[Any]:
        import torch

        with torch.inference_mode():
            tensors = self.pad(items)
            return self.read(self.model(**tensors), tensors, items)

    @abstractmethod
    def read(self, output: Any, tensors: dict[str, Any], items: list[Tokens]) -> list[Any]:
        """One result for each item out of the model's output."""


def _mark(tokens: Tokens, adapter: str) -> None:
    tokens[ADAPTER] = adapter or None


def read_max_length(parameters: Mapping[str, Any], usual: int, limit: int) -> int:
    """To how many tokens an input is cut: `usual`, or as a request says, which `limit` bounds."""
    value = parameters.get("max_length")
    if value is None:
        return usual
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise BadRequest(f"parameters.max_length={value!r}: give a whole number from 1")
    return min(value, limit)


def read_truncation(parameters: Mapping[str, Any]) -> bool | str:
    """Whether and what the tokenizer cuts off; by default the longer text of a pair."""
    value = parameters.get("truncation")
    if value is None or isinstance(value, bool):
        return value is not False
    if value not in TRUNCATIONS:
        raise BadRequest(
            f"parameters.truncation={value!r}: give true, false or one of {', '.join(TRUNCATIONS)}"
        )
    return str(value)


def split_pairs(inputs: Sequence[Any]) -> tuple[list[str], list[str] | None]:
    """Texts and, where inputs are pairs, their partners."""
    if all(isinstance(item, str) for item in inputs):
        return list(inputs), None
    pairs = [read_pair(item, index) for index, item in enumerate(inputs)]
    first = [one for one, _ in pairs]
    second = [other for _, other in pairs if other is not None]
    if not second:
        return first, None
    if len(second) < len(first):
        lone = next(index for index, (_, other) in enumerate(pairs) if other is None)
        raise BadInput(lone, ".text_pair is missing: give it for all inputs or for none")
    return first, second


def read_pair(item: Any, index: int) -> tuple[str, str | None]:
    """A text, {"text", "text_pair"}, [text, text], or as pipelines have it [[text, text]]."""
    if isinstance(item, list) and len(item) == 1 and isinstance(item[0], list):
        item = item[0]
    if isinstance(item, list) and len(item) == 2:
        item = {"text": item[0], "text_pair": item[1]}
    if isinstance(item, str):
        return item, None
    if not isinstance(item, dict) or not isinstance(item.get("text"), str):
        raise BadInput(
            index,
            f" is a {type(item).__name__}: give a text, or for every input a pair"
            ' {"text": ..., "text_pair": ...} or [text, text]',
        )
    check_keys(item, ("text", "text_pair"), index)
    pair = item.get("text_pair")
    if pair is not None and not isinstance(pair, str):
        raise BadInput(index, ".text_pair must be a text")
    return item["text"], pair


def check_keys(item: Mapping[str, Any], known: Sequence[str], index: int) -> None:
    """Raises BadRequest for what an input holds and nobody reads."""
    for name in sorted(set(item) - set(known)):
        raise BadInput(
            index, f".{name} is unknown: give {', '.join(known)}, and the rest in parameters"
        )
