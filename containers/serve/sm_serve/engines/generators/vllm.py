"""vLLM behind the same protocol, for GPU images that have it.

Written against vLLM 0.32's AsyncLLM. It gets token ids and gives token ids: chat templates, stop
strings and decoding are shared with the other backends.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import itertools
import logging
import os
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from sm_serve.artefact.artefact import Artefact
from sm_serve.config import VLLM_PREFIX, Settings
from sm_serve.engines import loading
from sm_serve.engines.adapters.adapter_files import check_adapter
from sm_serve.engines.background import in_thread
from sm_serve.engines.failures import engine_failure
from sm_serve.engines.generators.adapter_settings import read_settings
from sm_serve.engines.generators.base import TextGenerator
from sm_serve.engines.generators.grammar import REMEMBERED, Grammars
from sm_serve.engines.generators.vllm_adapters import load_whole, lora_arguments
from sm_serve.engines.generators.vllm_arguments import FILE, given_arguments, parse_arguments
from sm_serve.engines.generators.vllm_images import read_chat
from sm_serve.engines.generators.vllm_sizes import PARALLEL, spread
from sm_serve.engines.generators.vllm_values import read_output, read_prompt, write_sampling
from sm_serve.engines.generators.writing import TokenChunk
from sm_serve.engines.process.revival import Revival
from sm_serve.errors import (
    BadRequest,
    Conflict,
    EngineError,
    NotReady,
    OutOfMemory,
    StartupError,
    adapter_not_found,
)
from sm_serve.platform.renewal import BROKEN_SECONDS
from sm_serve.protocol import (
    Constraint,
    GenerationRequest,
    Sampling,
    TokenLogprob,
)
from sm_serve.schemas.images import images_in

logger = logging.getLogger(__name__)

AUTO_LENGTH = -1
DEAD = "vLLM's engine has died"
STOP_SECONDS = 10.0
"""How long vLLM's processes may take to end."""


def supported(artefact: Artefact) -> bool:
    """Whether vLLM is installed, a GPU is there, and the model needs no merging."""
    if importlib.util.find_spec("vllm") is None or artefact.is_adapter or artefact.encoder_decoder:
        return False
    import torch

    return bool(torch.cuda.is_available())


class VllmGenerator(TextGenerator):
    """A language model in vLLM's own processes."""

    def __init__(
        self,
        start: Callable[[], Any],
        config: Any,
        generation_config: Any,
        tokenizer: Any,
        settings: Settings,
    ) -> None:
        super().__init__(config, generation_config, tokenizer, settings)
        self._generation = generation_config
        self._start = start
        self._heard, self._asked = time.monotonic(), 0
        self._engine = engine = self._watched(start())
        self._revival = Revival("vLLM's engine", self._start_again)
        self.grammars = Grammars(tokenizer, self.vocabulary, self._closing)
        self._followed: OrderedDict[Constraint, None] = OrderedDict()
        self.context = int(engine.model_config.max_model_len)
        self._ids = itertools.count()
        self._lora_ids = itertools.count(1)
        self._loras: dict[str, Any] = {}
        self._own_lora: Any = None
        self._whole: set[int] = set()

    @classmethod
    def load(cls, artefact: Artefact, settings: Settings) -> VllmGenerator:
        """Starts vLLM on all GPUs. Adapters of the artefact are read when they are first used."""
        import transformers
        from vllm.config.structured_outputs import StructuredOutputsConfig

        # A forked child of a process with threads and CUDA could hang.
        os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")
        tokenizer = loading.load_tokenizer(artefact, settings)
        config = transformers.AutoConfig.from_pretrained(
            artefact.base, local_files_only=True, trust_remote_code=settings.trust_remote_code
        )
        try:
            generation = transformers.GenerationConfig.from_pretrained(
                artefact.base, local_files_only=True
            )
        except OSError:  # there is none: the model's config says where a sequence ends
            generation = None
        given = parse_arguments(given_arguments(artefact.path, settings), settings)
        # Who says one of the parallel sizes says them all.
        spreading = {} if given.keys() & PARALLEL else spread(artefact, config)
        arguments = engine_arguments(artefact, settings) | spreading | given
        # llguidance, as behind the other backends: the same grammars, and JSON without the blank
        # lines that a model may write for ever.
        grammars = StructuredOutputsConfig(backend="guidance", disable_any_whitespace=True)
        start = partial(start_engine, {**arguments, "structured_outputs_config": grammars}, given)
        generator = cls(start, config, generation, tokenizer, settings)
        try:
            generator._name_adapters(artefact, settings.served_name)
        except StartupError:
            generator.close()
            raise
        return generator

    def _name_adapters(self, artefact: Artefact, own_name: str) -> None:
        """The artefact's adapters; one that is the artefact itself answers where none is named."""
        for name, path in artefact.adapters.items():
            self._loras[name] = self._checked(name, path)
            self._read_settings(name, path)
        if artefact.is_adapter:
            self._own_lora = self._checked(own_name, artefact.path)
            self._read_settings(None, artefact.path)

    def _read_settings(self, name: str | None, path: Path) -> None:
        told = (name or path.name, path, self._generation, self.chat_template, None)
        self.adapter_settings[name] = read_settings(*told)

    def _checked(self, name: str, path: Path) -> Any:
        try:
            check_adapter(path)
        except BadRequest as error:
            raise StartupError(f"{path}: {error.message}") from error
        return self._lora(name, path)

    def _lora(self, name: str, path: Path) -> Any:
        from vllm.lora.request import LoRARequest

        return LoRARequest(name, next(self._lora_ids), str(path))

    async def _lora_for(self, adapter: str | None) -> Any:
        """What a request is answered with, in vLLM's processes; None for the model alone."""
        lora = self._loras[adapter] if adapter else self._own_lora
        if lora is not None and lora.lora_int_id not in self._whole:
            await load_whole(self._engine, lora)
            self._whole.add(lora.lora_int_id)
        return lora

    async def answer(
        self, prompt: list[int], sampling: Sampling, request: GenerationRequest
    ) -> AsyncGenerator[TokenChunk]:
        """See TextGenerator. Closing the iterator makes vLLM abort the request."""
        from vllm.exceptions import VLLMClientError
        from vllm.v1.engine.exceptions import EngineDeadError

        if (reason := self.trouble()) is not None:
            raise NotReady(f"the model does not answer: {reason}")
        if sampling.constraint is not None:
            await self._try_constraint(sampling.constraint)
        incremental = request.stream or bool(sampling.stop)
        self._begin()
        try:
            outputs = self._engine.generate(
                await self._with_pictures(prompt, request),
                write_sampling(
                    sampling, self.ends(sampling, request.adapter), incremental=incremental
                ),
                f"r{next(self._ids)}",
                lora_request=await self._lora_for(request.adapter),
            )
            async for output in outputs:
                chunk = read_output(output.outputs[0], sampling)
                yield replace(
                    chunk,
                    prompt=len(output.prompt_token_ids or ()),
                    full=output.outputs[0].finish_reason == "length",
                )
        except EngineDeadError as error:
            raise NotReady(f"the model does not answer: {self.trouble() or DEAD}") from error
        except BadRequest:
            raise
        except (VLLMClientError, ValueError) as error:
            raise BadRequest(f"the engine refuses this request: {str(error)[:300]}") from error
        except Exception as error:
            raise engine_failure(error, "generation failed") from error
        finally:
            self._asked -= 1

    def _begin(self) -> None:
        """A request goes to vLLM: from now on its steps are waited for."""
        if not self._asked:
            self._heard = time.monotonic()
        self._asked += 1

    def check_images(self, request: GenerationRequest) -> None:
        """See TextGenerator."""
        if not self._engine.model_config.is_multimodal_model:
            super().check_images(request)

    def template_messages(self, request: GenerationRequest) -> Any:
        """See TextGenerator: with the model's placeholders where images are to go."""
        if not any(images_in(request.prompt)):
            return super().template_messages(request)
        return self._read_chat(request)[0]

    def _read_chat(self, request: GenerationRequest) -> tuple[Any, Any]:
        return read_chat(self._engine.model_config, self.tokenizer, request.prompt, request.tools)

    async def _with_pictures(self, prompt: list[int], request: GenerationRequest) -> dict[str, Any]:
        if not any(images_in(request.prompt)):
            return {"prompt_token_ids": prompt}
        _, pictures = await in_thread(self._read_chat, request)
        return {"prompt_token_ids": prompt, "multi_modal_data": pictures}

    async def score(self, prompt: list[int], count: int, adapter: str | None) -> list[TokenLogprob]:
        """See TextGenerator: vLLM tells them with an answer of at least one token."""
        sampling = Sampling(max_new_tokens=1, prompt_logprobs=count)
        outputs = self._engine.generate(
            {"prompt_token_ids": prompt},
            write_sampling(sampling, self.ends(sampling), incremental=False),
            f"r{next(self._ids)}",
            lora_request=await self._lora_for(adapter),
        )
        try:
            async for output in outputs:
                if output.prompt_logprobs:
                    return read_prompt(prompt, output.prompt_logprobs, count)
        except Exception as error:
            if (reason := self.trouble()) is not None:
                raise NotReady(f"the model does not answer: {reason}") from error
            raise engine_failure(error, "scoring failed") from error
        raise EngineError("vLLM told no log probabilities of the prompt")

    def adapters(self) -> list[str]:
        """See AdapterHost."""
        return sorted(self._loras)

    async def load_adapter(self, name: str, path: Path) -> None:
        """See AdapterHost."""
        if name in self._loras:
            raise Conflict(f"adapter {name!r} is loaded already", code="adapter_already_loaded")
        if len(self._loras) >= self.settings.max_adapters:
            raise OutOfMemory(f"{self.settings.max_adapters} adapters are loaded: unload one first")
        await asyncio.to_thread(check_adapter, path)
        request = self._lora(name, path)
        await load_whole(self._engine, request)
        self._whole.add(request.lora_int_id)
        self._read_settings(name, path)
        self._loras[name] = request

    async def unload_adapter(self, name: str) -> None:
        """See AdapterHost. vLLM itself keeps it until its last request has been answered."""
        request = self._loras.pop(name, None)
        self.adapter_settings.pop(name, None)
        if request is None:
            raise adapter_not_found(name, self.adapters())
        await self._engine.remove_lora(request.lora_int_id)

    async def _try_constraint(self, constraint: Constraint) -> None:
        """Compiles a constraint aside first: in vLLM nothing ends what takes for ever.

        Raises BadRequest for a malformed one and a too complex one.
        """
        if constraint in self._followed:
            self._followed.move_to_end(constraint)
            return
        (await self.grammars.matcher(constraint)).close()
        self._followed[constraint] = None
        if len(self._followed) > REMEMBERED:
            self._followed.popitem(last=False)

    def trouble(self) -> str | None:
        """See TextGenerator: vLLM's processes have died, until they run again, or make no step for
        long while requests wait; then they are ended and started again too."""
        if self._revival.lost is not None:
            return self._revival.lost
        if self._engine.errored:
            self._revival.begin(DEAD)
            return DEAD
        silent = time.monotonic() - self._heard if self._asked else 0.0
        if silent <= self.settings.stall_timeout:
            return None
        stuck = f"vLLM's engine has made no step for over {self.settings.stall_timeout:g} s"
        if silent > self.settings.stall_timeout + BROKEN_SECONDS:
            self._revival.begin(stuck)
        return stuck

    @property
    def mending(self) -> bool:
        """See Engine: what is started again is another process, however often that fails."""
        return self._revival.lost is not None

    async def _start_again(self) -> None:
        await in_thread(end_processes, self._engine)
        self._engine = self._watched(await in_thread(self._start))
        self.context = int(self._engine.model_config.max_model_len)
        self._heard = time.monotonic()

    def _watched(self, engine: Any) -> Any:
        """The engine, with each of its steps noted: an answer in one piece says nothing before."""
        client = engine.engine_core
        receive = client.get_output_async

        async def hear() -> Any:
            outputs = await receive()
            self._heard = time.monotonic()
            return outputs

        client.get_output_async = hear
        return engine

    def close(self) -> None:
        """See the protocol."""
        self._revival.close()
        self.grammars.close()
        self._engine.shutdown()


def end_processes(engine: Any) -> None:
    """Ends vLLM's processes, also stuck ones; what waits for them gets vLLM's error."""
    import psutil

    manager = engine.engine_core.resources.engine_manager
    family = []
    for process in manager.processes if manager is not None else ():
        with contextlib.suppress(psutil.Error):
            parent = psutil.Process(process.pid)
            family += [parent, *parent.children(recursive=True)]
    for member in family:
        with contextlib.suppress(psutil.Error):
            member.kill()
    psutil.wait_procs(family, STOP_SECONDS)
    engine.shutdown(STOP_SECONDS)


def start_engine(arguments: Mapping[str, Any], given: Mapping[str, Any]) -> Any:
    """vLLM's engine, in processes of its own. Blocks for as long as the model takes.

    Raises StartupError where vLLM refuses its arguments; `given` are the operator's among them.
    """
    from vllm import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

    try:
        chosen = AsyncEngineArgs(**arguments)
        chosen.create_engine_config()  # as from_engine_args begins: nothing is loaded yet
    except (ValueError, TypeError, NotImplementedError) as error:
        told = ", ".join(f"{name}={value!r}" for name, value in given.items())
        reason = " ".join(str(error).split())[:500]
        raise StartupError(
            f"vLLM refuses its arguments{f' ({told})' if told else ''}: {reason}. They are set by"
            f" {VLLM_PREFIX}NAME and {FILE}"
        ) from error
    engine = AsyncLLM.from_engine_args(chosen)
    logger.info("vLLM serves a context of %d tokens", engine.model_config.max_model_len)
    return engine


def engine_arguments(artefact: Artefact, settings: Settings) -> dict[str, Any]:
    """AsyncEngineArgs' keywords."""
    arguments: dict[str, Any] = {
        "model": str(artefact.base),
        "dtype": choose_dtype(settings),
        "max_num_seqs": settings.max_in_flight,
        # The model's own context, or the longest that fits the memory beside the weights.
        "max_model_len": AUTO_LENGTH,
        "trust_remote_code": settings.trust_remote_code,
        "load_format": "auto" if settings.allow_pickle_weights else "safetensors",
        # Requests say how they sample; what a model's author prefers must not come on top.
        "generation_config": "vllm",
        "enable_log_requests": False,
        # With them each step is told, also one that gives no token: see _watched.
        "disable_log_stats": False,
    }
    return arguments | lora_arguments(artefact, settings)


def choose_dtype(settings: Settings) -> str:
    """float32 on CPU, as of the other engines; vLLM itself would take bfloat16."""
    import torch

    exact = settings.dtype == "auto" and not torch.cuda.is_available()
    return "float32" if exact else settings.dtype
