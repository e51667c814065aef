"""Answers OpenAI requests with an engine, from /v1/… and from /invocations alike."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator
from dataclasses import replace
from functools import partial
from typing import Any

from sm_serve.engines import offload
from sm_serve.engines.background import SLICE, gather
from sm_serve.errors import BadRequest, NotFound, ServeError, naming
from sm_serve.handlers.answer import Answer, started
from sm_serve.protocol import (
    ADAPTER,
    AdapterHost,
    Delta,
    Engine,
    GenerationRequest,
    Generator,
    Predictor,
    Task,
)
from sm_serve.schemas import embeddings, media, openai, responses
from sm_serve.schemas.invocation import dump, weight
from sm_serve.schemas.openai_writer import Writer
from sm_serve.schemas.response_events import ResponseWriter


def route_attribute(attributes: str) -> str | None:
    """The route in a custom-attributes header such as `route=/v1/completions`.

    Raises BadRequest for a route that does not exist.
    """
    for part in attributes.replace(";", ",").split(","):
        name, _, value = part.partition("=")
        if name.strip().lower() == "route":
            route = value.strip()
            if route not in openai.ROUTES:
                raise BadRequest(f"route={route!r}: give one of {', '.join(openai.ROUTES)}")
            return route
    return None


class OpenAI:
    """The OpenAI side of a handler."""

    def __init__(self, engine: Engine, name: str) -> None:
        self._engine = engine
        self._name = name

    @property
    def names(self) -> list[str]:
        """What `model` may be: the model itself, then its adapters."""
        engine = self._engine
        return [self._name, *(engine.adapters() if isinstance(engine, AdapterHost) else ())]

    async def answer(
        self, route: str, body: Any, request_id: str, adapter: str | None = None
    ) -> Answer:
        """Answers a parsed body; `adapter` goes before its `model`. Raises ServeError."""
        if route == openai.EMBEDDINGS:
            return await self._embeddings(body, adapter)
        if not isinstance(self._engine, Generator):
            raise BadRequest(f"{route} needs a language model: this is {self._engine.task}")
        if route == openai.RESPONSES:
            return await self._respond(self._engine, body, request_id, adapter)
        job = openai.parse_generation(route, body, self._engine.defaults)
        job = job.calling(self._engine.chat_template)
        name, chosen = self.choose(job.model, adapter)
        writer = Writer(job, name, request_id)
        requests = [
            replace(request, sampling=request.sampling.nth(n), adapter=chosen)
            for request in job.requests
            for n in range(job.n)
        ]
        if job.stream:
            pieces = await started(self._stream(self._engine, job, writer, requests))
            return Answer(pieces, media.EVENT_STREAM, on_error=_error_event)
        answers = await self._collect(self._engine, job, requests)
        return Answer(dump(writer.whole(answers)), media.JSON)

    async def _respond(
        self, engine: Generator, body: Any, request_id: str, adapter: str | None
    ) -> Answer:
        """OpenAI's Responses API; without a stream the whole is what its last event tells."""
        asked = responses.parse_responses(body, engine.defaults)
        try:
            job = asked.job.calling(engine.chat_template)
        except BadRequest as error:
            raise responses.renamed(error) from error
        name, chosen = self.choose(job.model, adapter)
        writer = ResponseWriter(replace(asked, job=job), name, request_id)
        request = replace(job.requests[0], adapter=chosen, stream=True)

        async def events() -> AsyncGenerator[bytes]:
            begun = False
            with naming(lambda _: "input"):
                async for delta in engine.generate(request):
                    # What is refused is refused before anything is told.
                    told = writer.push(delta) if begun else writer.begin(delta)
                    begun = True
                    for each in told:
                        yield named_event(each)

        if job.stream:
            return Answer(
                await started(events()),
                media.EVENT_STREAM,
                on_error=lambda error: named_event(writer.fail(error)),
            )
        async for _ in events():
            pass
        return Answer(dump(writer.response), media.JSON)

    def choose(self, name: str, adapter: str | None) -> tuple[str, str | None]:
        """The model's name for the answer, and the adapter that gives it."""
        if adapter is not None:
            return adapter, adapter
        others = self.names[1:]
        if name and name not in self.names and others:
            raise NotFound(
                f"model {name!r} does not exist: give one of {', '.join(self.names)}",
                code="model_not_found",
            )
        # Without adapters there is nothing to choose: the name is the client's label.
        return name or self._name, name if name in others else None

    async def _collect(
        self, engine: Generator, job: openai.Job, requests: list[GenerationRequest]
    ) -> list[Delta]:
        async def one(index: int, request: GenerationRequest) -> Delta:
            with naming(lambda _: job.name(index)):
                async for delta in engine.generate(request):
                    return delta
            raise ServeError("the engine gave no answer")

        return await gather(itertools.starmap(one, enumerate(requests)))

    async def _stream(
        self,
        engine: Generator,
        job: openai.Job,
        writer: Writer,
        requests: list[GenerationRequest],
    ) -> AsyncGenerator[bytes]:
        """Events of all choices as they come, then usage, then the end."""
        queue: asyncio.Queue[tuple[int, Delta] | Exception] = asyncio.Queue()
        begun = asyncio.Semaphore(SLICE)

        async def pump(index: int, request: GenerationRequest) -> None:
            try:
                async with begun:
                    with naming(lambda _: job.name(index)):
                        async for delta in engine.generate(request):
                            queue.put_nowait((index, delta))
            except Exception as error:
                queue.put_nowait(error)

        tasks = [asyncio.create_task(pump(i, request)) for i, request in enumerate(requests)]
        last: dict[int, Delta] = {}
        greeted: set[int] = set()
        try:
            while len(last) < len(requests):
                item = await queue.get()
                if isinstance(item, Exception):
                    raise item
                index, delta = item
                if job.chat and index not in greeted:
                    greeted.add(index)
                    yield event(writer.first(index))
                piece = writer.piece(index, delta)
                if piece is not None:
                    yield event(piece)
                if delta.finish_reason is not None:
                    last[index] = delta
            if job.usage is not openai.Usage.NEVER:
                yield event(writer.last([last[i] for i in range(len(requests))]))
            yield openai.DONE
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _embeddings(self, body: Any, adapter: str | None) -> Answer:
        if not isinstance(self._engine, Predictor) or self._engine.task is not Task.EMBEDDING:
            raise BadRequest(
                f"/v1/embeddings needs an embedding model: this is {self._engine.task}"
            )
        texts, encoding, model, dimensions = embeddings.parse_embeddings(body)
        name, chosen = self.choose(model, adapter)
        with naming(partial(embeddings.name_of, body["input"])):
            results = await self._engine.predict(texts, {"count_tokens": True, ADAPTER: chosen})

        def written() -> bytes:
            vectors = [embeddings.shorten(vector, dimensions) for vector, _ in results]
            tokens = sum(count for _, count in results)
            return dump(embeddings.write_embeddings(vectors, tokens, encoding, name))

        size = weight([[vector for vector, _ in results]])
        return Answer(await offload.run(size, written), media.JSON)


def event(value: Any) -> bytes:
    """A server-sent event."""
    return b"data: " + dump(value) + b"\n\n"


def named_event(value: dict[str, Any]) -> bytes:
    """A server-sent event with the name of its type, as OpenAI's Responses API has them."""
    return f"event: {value['type']}\n".encode() + event(value)


def _error_event(error: ServeError) -> bytes:
    return event(error.body())
