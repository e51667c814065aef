"""Routes that clients of other servers know: TGI's, TEI's and vLLM's, over the same engine."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from sm_serve.errors import BadRequest, NotFound
from sm_serve.handlers.answer import Answer, Incoming
from sm_serve.handlers.engine import EngineHandler
from sm_serve.http.middleware import respond
from sm_serve.protocol import GenerationRequest, Task, TokenReader
from sm_serve.schemas import invocation as wire
from sm_serve.schemas import media, ranking
from sm_serve.schemas.client_fields import (
    DETOKENIZE,
    RERANK,
    SCORE,
    TEI_EMBED,
    TEI_RERANK,
    TGI,
    TOKENIZE,
)
from sm_serve.schemas.fields import Field, Values
from sm_serve.schemas.openai import read_messages, read_variables, require_object
from sm_serve.schemas.tools import read_tools
from sm_serve.service import Service

Answering = Callable[[EngineHandler, Incoming], Awaitable[Answer]]
GENERATING = frozenset({Task.TEXT_GENERATION})
EMBEDDING = frozenset({Task.EMBEDDING})
SCORING = frozenset({Task.EMBEDDING, Task.TEXT_CLASSIFICATION})
EVERY = frozenset(Task) - {Task.CUSTOM}


class ClientRoute:
    """POST of one path."""

    def __init__(self, service: Service, answering: Answering) -> None:
        self._service = service
        self._answering = answering

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        handler = self._service.handler
        if not isinstance(handler, EngineHandler):
            raise NotFound("only /invocations is answered here")
        invoke: Any = partial(self._answering, handler)
        await respond(scope, receive, send, self._service, invoke)


def client_routes(service: Service) -> list[Route]:
    """Health, version, and what POSTs of other servers' paths give."""

    async def health(request: Request) -> Response:
        problem = service.health.problem()
        return JSONResponse({"status": problem or "healthy"}, 200 if problem is None else 503)

    async def version(request: Request) -> Response:
        return JSONResponse({"version": metadata.version("sm-serve")})

    return [
        Route("/health", health, methods=["GET"]),
        Route("/version", version, methods=["GET"]),
        *(
            Route(post.path, ClientRoute(service, post.answering), methods=["POST"])
            for post in POSTS
        ),
    ]


async def invoke(handler: EngineHandler, request: Incoming) -> Answer:
    """Hugging Face's clients send to the endpoint's own address."""
    return await handler.invoke(request)


async def generate(handler: EngineHandler, request: Incoming) -> Answer:
    """TGI's /generate: one answer without a list around it."""
    call = await read_tgi(handler, request, "/generate")
    return written((await handler.results(call))[0])


async def generate_stream(handler: EngineHandler, request: Incoming) -> Answer:
    """TGI's /generate_stream."""
    call = await read_tgi(handler, request, "/generate_stream")
    return await handler.stream(call, request.accept)


async def read_tgi(handler: EngineHandler, request: Incoming, path: str) -> wire.Call:
    """A body of text-generation-inference: one input and its parameters."""
    need(handler, Task.TEXT_GENERATION, path)
    fields = Values(TGI, require_object(await handler.read_json(request)))
    if path == "/generate" and fields.flag("stream"):
        raise fields.wrong("stream", True, "/generate_stream streams")
    call = wire.parse_call({name: fields[name] for name in fields if name != "stream"})
    if not call.single:
        raise BadRequest(f"{path} gives one answer to one input: send one request for each")
    return call


async def tokenize(handler: EngineHandler, request: Incoming) -> Answer:
    """vLLM's /tokenize of `prompt` or `messages`, or TGI's of `inputs`."""
    body = require_object(await handler.read_json(request))
    fields = Values(TOKENIZE, body)
    engine = reader(handler)
    given = [name for name in ("prompt", "messages", "inputs") if name in fields]
    if len(given) != 1:
        raise BadRequest("give one of prompt, messages and inputs")
    ids = await engine.tokens(read_prompt(fields, given[0]))
    names = [engine.token_text(token) for token in ids]
    if given == ["inputs"]:
        return written([{"id": i, "text": name} for i, name in zip(ids, names, strict=True)])
    answer: dict[str, Any] = {"count": len(ids), "max_model_len": engine.context, "tokens": ids}
    answer["token_strs"] = names if fields.flag("return_token_strs") else None
    return written(answer)


def read_prompt(fields: Values, name: str) -> GenerationRequest:
    """What is to be tokenized: a text, or messages with what else their template reads."""
    if name == "messages":
        use = read_tools(fields)
        return GenerationRequest(
            read_messages(fields[name]),
            tools=use.tools if use else None,
            continue_final_message=fields.flag("continue_final_message"),
            template_variables=read_variables(fields),
        )
    for other in ("tools", "continue_final_message", "chat_template_kwargs"):
        if fields.get(other):
            raise fields.wrong(other, fields[other], f"it is for messages, not for {name}")
    return GenerationRequest(fields[name])


async def detokenize(handler: EngineHandler, request: Incoming) -> Answer:
    """vLLM's /detokenize."""
    fields = Values(DETOKENIZE, require_object(await handler.read_json(request)))
    if "tokens" not in fields:
        raise BadRequest("tokens is missing: give a list of token ids")
    return written({"prompt": reader(handler).text_of(fields["tokens"])})


async def embed(handler: EngineHandler, request: Incoming) -> Answer:
    """TEI's /embed: vectors alone. As there, a text that is too long is refused unless cut."""
    need(handler, Task.EMBEDDING, "/embed")
    fields = Values(TEI_EMBED, require_object(await handler.read_json(request)))
    inputs = fields.get("inputs")
    parameters = {name: fields[name] for name in ("normalize", "prompt_name") if name in fields}
    parameters["truncation"] = fields.flag("truncate")
    call = wire.parse_call({"inputs": inputs, "parameters": parameters})
    return written(await handler.results(call))


async def rerank(handler: EngineHandler, request: Incoming) -> Answer:
    """Texts by their scores against a query."""
    job = ranking.parse_rerank(await handler.read_json(request))
    pairs = [(job.query, text) for text in job.texts]
    name, adapter = handler.openai.choose(job.model, handler.wanted_adapter(request))
    places = [("query", name) for name in job.names]
    scores = await scored(handler, pairs, places, adapter, raw=job.raw, truncate=job.truncate)
    return written(ranking.write_rerank(job, scores, request.id, name))


async def score(handler: EngineHandler, request: Incoming) -> Answer:
    """vLLM's /score of pairs."""
    pairs, places, model = ranking.parse_score(await handler.read_json(request))
    name, adapter = handler.openai.choose(model, handler.wanted_adapter(request))
    scores = await scored(handler, pairs, places, adapter)
    return written(ranking.write_scores(scores, request.id, name))


async def scored(
    handler: EngineHandler,
    pairs: list[tuple[str, str]],
    places: list[tuple[str, str]],
    adapter: str | None,
    *,
    raw: bool = False,
    truncate: bool = True,
) -> list[float]:
    """A cross-encoder's scores of pairs, or the cosine of two texts' vectors.

    `places` are what the client calls the texts of each pair.
    """
    if handler.engine.task is Task.EMBEDDING:
        named = {
            text: name
            for pair, names in zip(reversed(pairs), reversed(places), strict=True)
            for text, name in zip(reversed(pair), reversed(names), strict=True)
        }
        call = wire.Call(list(named), {"truncation": truncate}, names=list(named.values()))
        vectors = dict(zip(named, await handler.results(call, adapter), strict=True))
        return [ranking.cosine(vectors[one], vectors[other]) for one, other in pairs]
    need(handler, Task.TEXT_CLASSIFICATION, "Reranking")
    inputs = [{"text": one, "text_pair": other} for one, other in pairs]
    options = {"top_k": None, "function_to_apply": "none", "truncation": truncate}
    names = [f"{one} with {other}" for one, other in places]
    rows = await handler.results(wire.Call(inputs, options, names=names), adapter)
    if any(len(row) != 1 for row in rows):
        raise BadRequest(
            f"this model has {len(rows[0])} labels: pairs are scored by a model with one"
        )
    return [row[0]["score"] if raw else ranking.sigmoid(row[0]["score"]) for row in rows]


def need(handler: EngineHandler, task: Task, what: str) -> None:
    """BadRequest where the model is for another task."""
    if handler.engine.task is not task:
        raise BadRequest(f"{what} is for {task}: this model does {handler.engine.task}")


def reader(handler: EngineHandler) -> TokenReader:
    """The engine, where it tells of its tokens."""
    if not isinstance(handler.engine, TokenReader):
        raise BadRequest(f"tokens are told of language models: this is {handler.engine.task}")
    return handler.engine


def written(value: Any) -> Answer:
    """A JSON answer."""
    return Answer(wire.dump(value), media.JSON)


@dataclass(frozen=True)
class Post:
    """A path that clients of another server post to, the tasks that answer it, and its body.

    `bodies` are the tables of the fields that a body may have; without one it is as that of
    /invocations. `answer` is the type of the JSON answer; None for a stream.
    """

    path: str
    answering: Answering
    summary: str
    tasks: frozenset[Task]
    bodies: tuple[tuple[Field, ...], ...] = ()
    answer: str | None = "object"


RERANKS = (RERANK, TEI_RERANK)
POSTS = (
    Post("/", invoke, "As /invocations", EVERY),
    Post("/generate", generate, "As of text-generation-inference", GENERATING, (TGI,)),
    Post("/generate_stream", generate_stream, "As of text-generation-inference", GENERATING,
         (TGI,), None),
    Post("/tokenize", tokenize, "A text's tokens", GENERATING, (TOKENIZE,), ""),
    Post("/detokenize", detokenize, "Tokens' text", GENERATING, (DETOKENIZE,)),
    Post("/embed", embed, "As of text-embeddings-inference", EMBEDDING, (TEI_EMBED,), "array"),
    *(Post(path, rerank, "Texts by their scores against a query", SCORING, RERANKS, "")
      for path in ("/rerank", "/v1/rerank", "/v2/rerank")),
    *(Post(path, score, "Scores of pairs", SCORING, (SCORE,)) for path in ("/score", "/v1/score")),
)  # fmt: skip
