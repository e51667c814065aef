"""The default handler: bodies in the Hugging Face format, answered by an engine."""

from __future__ import annotations

import copy
import itertools
import logging
from collections.abc import AsyncGenerator, Awaitable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from sm_serve import contract, protocol
from sm_serve.config import Settings
from sm_serve.engines import offload
from sm_serve.engines.background import gather
from sm_serve.errors import (
    ADAPTER_REQUIRED,
    BadPrompt,
    BadRequest,
    NotAcceptable,
    ServeError,
    StartupError,
    adapter_not_found,
    naming,
)
from sm_serve.handlers import pipelines
from sm_serve.handlers.answer import Answer, Incoming, started
from sm_serve.handlers.openai import OpenAI, route_attribute
from sm_serve.protocol import (
    ADAPTER,
    NO_MASK,
    AdapterHost,
    Delta,
    Engine,
    GenerationRequest,
    Generator,
    Predictor,
    Task,
)
from sm_serve.schemas import invocation as wire
from sm_serve.schemas import media, openai
from sm_serve.schemas.fields import Values
from sm_serve.schemas.generation import (
    BEAMS,
    Options,
    answer_key,
    read_options,
    write_piece,
    write_result,
)
from sm_serve.schemas.invocation import Call
from sm_serve.schemas.message_reader import AnswerReader
from sm_serve.tasks import declared, fields_of

logger = logging.getLogger(__name__)


class Handler(Protocol):
    """What the server asks: answers, the truth about health, an end."""

    @property
    def engine(self) -> Engine | None:
        """The engine behind, where there is one."""
        ...

    async def invoke(self, request: Incoming) -> Answer:
        """Answers /invocations. Raises ServeError."""
        ...

    async def warm_up(self) -> None:
        """Answers one small request, so that the first client does not wait for lazy set-up."""
        ...

    def health(self) -> str | None:
        """None when requests will be answered, else why not."""
        ...

    def close(self) -> None:
        """Releases the engine."""
        ...


class EngineHandler:
    """Reads a body, asks the engine, writes the results."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self.engine: Engine = engine
        # Asked once: to look a protocol's methods up costs a good part of a small request.
        self._predictor = engine if isinstance(engine, Predictor) else None
        self._generator = engine if isinstance(engine, Generator) else None
        self.openai = OpenAI(engine, settings.served_name)
        default = settings.default_accept
        self._items = settings.max_items
        self._key = answer_key(settings.task)
        self._default = None if default == media.JSON else default

    async def invoke(self, request: Incoming) -> Answer:
        """See Handler."""
        adapter = self.wanted_adapter(request)
        refuse_sessions(request)
        route = route_attribute(request.headers.get(contract.HEADER_CUSTOM_ATTRIBUTES, ""))
        if route is not None:
            return await self.invoke_openai(route, request)
        content = media.parse_media_type(request.content_type)
        document = await request.read(content)
        if content.type == media.JSON:
            if self.engine.task is Task.EMBEDDING:
                document = replace(document, value=gathered(document.value))
            route = openai.route_of(document.value)
            if route == openai.EMBEDDINGS and self._generator is not None:
                route = openai.RESPONSES  # its input has the same name
            if route is not None:
                return await self.openai.answer(route, document.value, request.id, adapter)
        invocation = wire.read_invocation(document, content)
        calls = invocation.calls
        if any(call.stream for call in calls):
            if self._generator is None:
                raise BadRequest(f"stream=True: {self.engine.task} does not stream: leave it out")
            if len(calls) > 1:
                raise BadRequest("stream=True takes one input: send one request for each line")
            return await self.stream(calls[0], request.accept, adapter)
        kind = wire.choose_output(request.accept, invocation, self._default)
        if invocation.mirror != media.JSON_LINES:
            results = [await self.results(calls[0], adapter)]
        else:
            lines = await gather(self._line(call, adapter) for call in calls)
            results = wire.isolate(calls, lines, kind)
            if failed := sum(isinstance(each, ServeError) for each in lines):
                logger.warning("request %s: %d of %d lines failed", request.id, failed, len(lines))
        body = await offload.run(wire.weight(results), wire.write_results, calls, results, kind)
        return Answer(body, kind)

    async def invoke_openai(self, route: str, request: Incoming) -> Answer:
        """Answers a body in OpenAI's format."""
        adapter = self.wanted_adapter(request)
        value = await self.read_json(request)
        return await self.openai.answer(route, value, request.id, adapter)

    def wanted_adapter(self, request: Incoming) -> str | None:
        """The adapter that the client's header names. NotFound where there are no adapters."""
        name = request.headers.get(contract.HEADER_ADAPTER) or None
        if name is not None and not isinstance(self.engine, AdapterHost):
            raise adapter_not_found(name, [])
        return name

    async def _line(self, call: Call, adapter: str | None) -> list[Any] | ServeError:
        """The results of a line, or what failed in it."""
        if call.fault is not None:
            return call.fault
        try:
            return await self.results(call, adapter)
        except ServeError as error:
            failure = copy.copy(error)  # several calls may share one
            failure.message = f"line {call.line}: {error.message}"
            return failure

    async def results(self, call: Call, adapter: str | None = None) -> list[Any]:
        """One result for each input of a call; a header's adapter goes before the body's."""
        if self._predictor is not None:
            with naming(call.name):
                return await self._predicted(self._predictor, call, adapter)
        if self._generator is not None:
            options = read_options(call.parameters, self._generator.defaults)
            options = replace(options, adapter=adapter or options.adapter)
            engine = self._generator

            async def answered(index: int, prompt: Any) -> Any:
                with naming(lambda _: call.name(index)):
                    return await self._sequences(engine, prompt, options)

            return await gather(itertools.starmap(answered, enumerate(call.inputs)))
        raise ServeError(f"the engine {type(self.engine).__name__} answers nothing")

    async def _predicted(self, engine: Predictor, call: Call, adapter: str | None) -> list[Any]:
        given, task = call.parameters, engine.task
        chosen = {ADAPTER: adapter or given.get(ADAPTER)}

        def predict(inputs: Sequence[Any], parameters: Mapping[str, Any]) -> Awaitable[list[Any]]:
            return engine.predict(inputs, {**parameters, **chosen})

        if task is Task.TEXT_CLASSIFICATION and pipelines.LABELS in given:
            return await pipelines.classify_zero_shot(predict, call.inputs, given, self._items)
        parameters = check_parameters(task, given)
        if task is Task.EMBEDDING and pipelines.asks_similarity(call.inputs):
            return await pipelines.compare_sentences(predict, call.inputs, parameters)
        parameters = {**parameters, ADAPTER: adapter} if adapter else parameters
        return await engine.predict(call.inputs, parameters)

    async def _sequences(self, engine: Generator, prompt: Any, options: Options) -> Any:
        """The answer to one prompt, or a list of several."""
        if options.sequences == 1 or options.beams.get(BEAMS, 1) > 1:
            return await self._generate(engine, prompt, options)
        options = replace(options, beams={**options.beams, BEAMS: 1})
        drawn = [
            replace(options, sampling=options.sampling.nth(n)) for n in range(options.sequences)
        ]
        return await gather(self._generate(engine, prompt, one) for one in drawn)

    async def _generate(self, engine: Generator, prompt: Any, options: Options) -> Any:
        request = as_request(check_prompt(prompt), options)
        answers: dict[int, list[Delta]] = {}
        reader = AnswerReader()
        async for piece in engine.generate(request):
            answers.setdefault(piece.index, []).append(reader.read(piece))
        begin = prompt if options.full_text and isinstance(prompt, str) else ""
        results = [
            write_result(
                begin + "".join(piece.text for piece in pieces),
                pieces,
                details=options.details,
                key=self._key,
            )
            for pieces in answers.values()
        ]
        return results[0] if request.sequences == 1 else results

    async def read_json(self, request: Incoming) -> Any:
        """The value of a JSON body, whatever its Content-Type says."""
        refuse_sessions(request)
        content = media.parse_media_type(request.content_type)
        return (await request.read(replace(content, type=media.JSON))).value

    async def stream(self, call: Call, accept: str | None, adapter: str | None = None) -> Answer:
        """Streams the answer to a call of one input."""
        engine = self._generator
        if engine is None:
            raise BadRequest(f"stream=True: {self.engine.task} does not stream: leave it out")
        if len(call.inputs) != 1:
            raise BadRequest("stream: true takes one input: send one request for each")
        kind = stream_type(accept)
        options = read_options(call.parameters, engine.defaults)
        if options.sampling.prompt_logprobs is not None:
            raise BadRequest("parameters.decoder_input_details: a stream does not tell it")
        if options.sequences > 1:
            raise BadRequest("stream: true gives one answer: leave num_return_sequences out")
        with naming(call.name):
            prompt = check_prompt(call.inputs[0])
        options = replace(options, adapter=adapter or options.adapter)
        pieces = engine.generate(replace(as_request(prompt, options), stream=True))

        def frame(value: Any) -> bytes:
            data = wire.dump(value)
            return b"data:" + data + b"\n\n" if kind == media.EVENT_STREAM else data + b"\n"

        async def body() -> AsyncGenerator[bytes]:
            text = prompt if options.full_text and isinstance(prompt, str) else ""
            reader = AnswerReader()
            async for told in pieces:
                piece = reader.read(told)
                text += piece.text
                yield frame(write_piece(piece, text))

        with naming(call.name):
            pieces_of_body = await started(body())
        return Answer(pieces_of_body, kind, on_error=lambda error: frame(error.body()))

    async def warm_up(self) -> None:
        """See Handler."""
        if self._generator is not None:
            await self._warm_generator(self._generator)
            return
        task = declared().get(self.engine.task)
        if task is None:
            return
        call = Call(list(task.warm_up))
        try:
            results = await self.results(call)
        except BadRequest as error:
            if error.code == NO_MASK:  # the model has another word for it
                return
            if error.code != ADAPTER_REQUIRED or not isinstance(self.engine, AdapterHost):
                raise
            results = await self.results(call, self.engine.adapters()[0])
        wire.dump(results)  # what is no JSON is no answer

    async def _warm_generator(self, generator: Generator) -> None:
        """The model, and each adapter that it begins with: what cannot answer fails the start."""
        names = self.engine.adapters() if isinstance(self.engine, AdapterHost) else ()
        for name in (None, *names):
            try:
                async for _ in generator.generate(replace(protocol.WARM_UP, adapter=name)):
                    pass
            except BadRequest as error:
                raise StartupError(error.message) from error

    def health(self) -> str | None:
        """See Handler."""
        return self.engine.health()

    def close(self) -> None:
        """See Handler."""
        self.engine.close()


def as_request(prompt: Any, options: Options) -> GenerationRequest:
    """A prompt with its parameters. Of several answers, those that are not drawn are searched."""
    return GenerationRequest(
        prompt,
        options.sampling,
        adapter=options.adapter,
        truncate=options.truncate,
        beams=options.beams,
        as_pipeline=True,
        sequences=options.sequences if options.beams.get(BEAMS, 1) > 1 else 1,
        cut=options.cut,
    )


def check_parameters(task: Task, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Those of an encoder that its engine is to know. BadRequest names what it cannot obey."""
    table = fields_of(task)
    Values(table, parameters, "parameters.", task.value)
    idle = {field.name for field in table if field.label or field.refusal}
    return {name: value for name, value in parameters.items() if name not in idle}


def refuse_sessions(request: Incoming) -> None:
    """A session would have to be kept: BadRequest names the header."""
    if session := request.headers.get(contract.HEADER_SESSION):
        raise BadRequest(
            f"X-Amzn-SageMaker-Session-Id={session[:40]!r}: this model keeps no sessions: leave"
            " SessionId out",
            code="sessions_not_supported",
        )


def stream_type(accept: str | None) -> str:
    """JSON Lines where the client asks for them, else server-sent events.

    Clients of stock endpoints stream with the Accept header of their plain answers.
    """
    try:
        return media.choose_accept(
            accept, (media.EVENT_STREAM, media.JSON_LINES), media.EVENT_STREAM
        )
    except NotAcceptable:
        return media.EVENT_STREAM


ROOT_PARAMETERS = ("normalize", "prompt_name", "truncate", "truncation_direction")
"""Of feature extraction: Hugging Face's clients, and TEI's, write these beside `inputs`."""


def gathered(value: Any) -> Any:
    """A body with its parameters in their place."""
    if not isinstance(value, dict) or "inputs" not in value:
        return value
    beside = {name: value[name] for name in ROOT_PARAMETERS if name in value}
    parameters = value.get("parameters")
    if not beside or not isinstance(parameters, dict | None):
        return value
    rest = {name: inner for name, inner in value.items() if name not in beside}
    return {**rest, "parameters": {**beside, **(parameters or {})}}


def check_prompt(prompt: Any) -> str | list[dict[str, Any]]:
    """A text, or chat messages whose content is text."""
    if isinstance(prompt, str):
        return prompt
    if wire.is_messages(prompt):
        return openai.read_messages(prompt)
    raise BadPrompt(
        f'give a text or chat messages [{{"role": ..., "content": ...}}], not a'
        f" {type(prompt).__name__}"
    )
