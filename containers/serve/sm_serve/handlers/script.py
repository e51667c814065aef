"""A user's inference.py under the inference toolkit's own Transformer, in this process.

The functions of the script (model_fn, input_fn, predict_fn, output_fn, transform_fn) are found,
combined with defaults and called by `sagemaker_inference.transformer.Transformer`, so that they
behave as under the stock model server. Only the model server itself is replaced. Where a script
leaves functions out, ours (`script_defaults`) fill in.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from sagemaker_inference.errors import BaseInferenceToolkitError, UnsupportedFormatError
from sagemaker_inference.transformer import Transformer

from sm_serve.config import Settings
from sm_serve.engines.failures import lost_device
from sm_serve.errors import ServeError, StartupError, UnsupportedMediaType
from sm_serve.handlers import hf_toolkit, requirements
from sm_serve.handlers.answer import Answer, Incoming
from sm_serve.handlers.script_defaults import Defaults
from sm_serve.handlers.scripts import ROLES, Script
from sm_serve.protocol import Engine
from sm_serve.schemas import documents, media

logger = logging.getLogger(__name__)

SHOWN_CHARACTERS = 300
"""Of a user's error message, this much is sent to the client."""


class RequestContext:
    """What handler functions may ask about the request: the model server's context object."""

    def __init__(self, model_dir: str, headers: Mapping[str, str], request_id: str = "") -> None:
        self.system_properties = {"model_dir": model_dir, "gpu_id": None, "batch_size": 1}
        self.request_processor = [self]
        self.request_ids = {0: request_id}
        self.status: tuple[int, str] = (200, "OK")
        self.content_type: str | None = None
        self.response_headers: dict[str, str] = {}
        self.error: BaseException | None = None
        self._headers = {_title(name): value for name, value in headers.items()}

    def get_request_properties(self) -> dict[str, str]:
        """The request's headers."""
        return self._headers

    def get_all_request_header(self, idx: int) -> dict[str, str]:
        """The request's headers."""
        return self._headers

    def get_request_header(self, idx: int, key: str) -> str | None:
        """One header, by any spelling of its name."""
        return self._headers.get(_title(key))

    def get_request_id(self, idx: int = 0) -> str:
        """The id that the request has in the log."""
        return self.request_ids[0]

    def set_response_status(self, code: int = 200, phrase: str = "", idx: int = 0) -> None:
        """Status of the response."""
        self.status = (code, phrase)

    def set_response_content_type(self, idx: int, value: str) -> None:
        """Content type of the response."""
        self.content_type = value

    def set_response_header(self, idx: int, key: str, value: str) -> None:
        """A header of the response."""
        self.response_headers[key] = value


def _title(name: str) -> str:
    return "-".join(part.capitalize() for part in name.split("-"))


class InProcessTransformer(Transformer):  # type: ignore[misc]
    """The toolkit's Transformer for concurrent use, keeping causes instead of stack traces."""

    def __init__(self, default_inference_handler: Defaults, module: str) -> None:
        super().__init__(default_inference_handler)
        self._current = threading.local()
        self._module = module

    def transform(self, data: list[dict[str, Any]], context: RequestContext) -> list[Any]:
        """See the toolkit; handler functions that take a context get this request's."""
        self._current.context = context
        result: list[Any] = super().transform(data, context)
        return result

    def validate_and_initialize(self, model_dir: str, context: RequestContext) -> None:
        """See the toolkit; the model is loaded by the first call."""
        self._current.context = context
        super().validate_and_initialize(model_dir=model_dir, context=context)

    def _validate_user_module_and_set_functions(self) -> None:
        # The toolkit knows a script by SAGEMAKER_PROGRAM alone, and passes one in a folder over.
        self._environment._module_name = self._module
        super()._validate_user_module_and_set_functions()

    def _run_handler_function(self, func: Callable[..., Any], *argv: Any) -> Any:
        # The toolkit passes the context of start-up; handlers expect the one of their request.
        runner = _Runner(self._current.context)
        return Transformer._run_handler_function(runner, func, *argv)

    @staticmethod
    def handle_error(
        context: RequestContext, inference_exception: Exception, trace: str
    ) -> list[str]:
        """Keeps the cause for the log; the toolkit would send the trace to the client."""
        context.error = sys.exception() or inference_exception
        return [""]

    def user_function(self, name: str) -> Any:
        """The function in use for a role such as `predict_fn`."""
        return getattr(self, f"_{name}")


class _Runner:
    """The part of a Transformer that `_run_handler_function` reads."""

    def __init__(self, context: RequestContext) -> None:
        self._context = context


class UserHandler:
    """Runs the script's functions on threads of their own, one unless settings say more.

    The stock server runs scripts in single-threaded worker processes, so one thread is what every
    script is safe with; SAGEMAKER_MODEL_SERVER_WORKERS raises it.
    """

    def __init__(self, settings: Settings, script: Script, loop: asyncio.AbstractEventLoop) -> None:
        self._settings = settings
        self._script = script
        self._loop = loop
        self._defaults = Defaults(settings, loop)
        self._transformer = InProcessTransformer(self._defaults, script.module)
        self._pool = ThreadPoolExecutor(settings.user_threads, thread_name_prefix="sm-serve-user")
        self._running: dict[int, float] = {}
        self._lost: str | None = None
        self._model_dir = str(settings.model_dir)

    @property
    def engine(self) -> Engine | None:
        """Our engine, where the script leaves model_fn out."""
        return self._defaults.model.handler.engine if self._defaults.model else None

    def load(self) -> None:
        """Imports the script and loads the model. Raises what the script raises."""
        script, folder = self._script.path, self._settings.code_dir
        sys.path[:0] = [str(place) for place in self._script.search if str(place) not in sys.path]
        _refuse_shadow(self._script.module, str(script))
        wanted = self._settings.install_requirements
        if wanted != requirements.OFF:
            packages = requirements.install(folder, hashes=wanted == requirements.HASHES)
            sys.path[:0] = [str(packages)] if packages is not None else []
        lacking = requirements.unmet(folder) if wanted == requirements.OFF else []
        if lacking:
            logger.warning("%s", requirements.advice(lacking))
        hf_toolkit.provide()
        context = RequestContext(self._model_dir, {})
        try:
            self._transformer.validate_and_initialize(self._model_dir, context)
        except ModuleNotFoundError as error:
            if not lacking:
                raise
            hint = requirements.advice(lacking)
            raise StartupError(f"{script} needs the module {error.name!r}: {hint}") from error
        except SystemExit as error:
            raise StartupError(f"{script} ended the process: SystemExit: {error}") from error
        self._refuse_coroutines(script)
        predict = self._transformer.user_function("predict_fn")
        self._defaults.user_predicts = getattr(predict, "__self__", None) is not self._defaults

    def _refuse_coroutines(self, script: Path) -> None:
        """The toolkit calls plain functions; a coroutine would be taken for the result."""
        for name in ROLES:
            if asyncio.iscoroutinefunction(self._transformer.user_function(name)):
                raise StartupError(
                    f"{script}: {name} is async: write def, the toolkit awaits nothing"
                )

    async def invoke(self, request: Incoming) -> Answer:
        """See Handler."""
        content = media.parse_media_type(request.content_type)
        body = request.body
        if content.charset != "utf-8":
            body = documents.decode_text(body, content).encode()
        headers = {**request.headers, "content-type": content.type}
        context = RequestContext(self._model_dir, headers, request.id)
        response = await self._loop.run_in_executor(self._pool, self._transform, body, context)
        if isinstance(response, Iterator):
            return Answer(self._stream(response), context.content_type or media.JSON)
        code, _ = context.status
        return Answer(
            to_bytes(response), context.content_type or media.JSON, code, context.response_headers
        )

    def _transform(self, body: bytes, context: RequestContext) -> Any:
        me = threading.get_ident()
        self._running[me] = time.monotonic()
        try:
            response = self._transformer.transform([{"body": body}], context)[0]
        except SystemExit as error:  # it would end the server with all other requests
            raise explain(error) from error
        finally:
            self._running.pop(me, None)
        if context.error is not None:
            self._look_for_loss(context.error)
            raise explain(context.error) from context.error
        return response

    def _look_for_loss(self, error: BaseException) -> None:
        """Whatever else a script raises may be its request's fault, as far as we can know."""
        if lost_device(error):
            self._lost = f"the device has failed ({type(error).__name__}) in the inference script"

    async def _stream(self, pieces: Iterator[Any]) -> AsyncGenerator[bytes]:
        end = object()
        while True:
            try:
                piece = await self._loop.run_in_executor(self._pool, _next, pieces, end)
            except Exception as error:
                self._look_for_loss(error)
                raise
            if piece is end:
                return
            yield to_bytes(piece)

    async def warm_up(self) -> None:
        """A script's input is unknown to us: its own model_fn warms up what it needs."""

    def health(self) -> str | None:
        """Broken when our engine is, when the script has lost its GPU, or when every thread is
        stuck in it."""
        if self._lost is not None:
            return self._lost
        engine = self.engine
        if engine is not None and (reason := engine.health()) is not None:
            return reason
        limit = max(self._settings.request_timeout, self._settings.stall_timeout)
        started = list(self._running.values())
        now = time.monotonic()
        if len(started) == self._settings.user_threads and min(now - t for t in started) > limit:
            return f"all {len(started)} handler threads have been busy for over {limit:g} s"
        return None

    def close(self) -> None:
        """See Handler."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        if (engine := self.engine) is not None:
            engine.close()


def _refuse_shadow(module: str, path: str) -> None:
    """The toolkit imports the script by name: another module of that name would be taken."""
    loaded = sys.modules.get(module)
    if loaded is not None and getattr(loaded, "__file__", None) != path:
        raise StartupError(
            f"{path} cannot be imported: a module named {module!r} is loaded already. Rename the"
            " script and set SAGEMAKER_PROGRAM"
        )


def explain(error: BaseException) -> ServeError:
    """The error that a client sees for one that the script raised."""
    if isinstance(error, ServeError):
        return error
    if isinstance(error, UnsupportedFormatError):
        return UnsupportedMediaType(str(error).split("\n", 1)[0])
    if isinstance(error, BaseInferenceToolkitError):
        failure = ServeError(str(error.message), code="inference_error")
        failure.status = error.status_code
        return failure
    logger.error("the inference script failed", exc_info=error)
    name = type(error).__name__
    # Messages of the operating system hold paths of the container.
    shown = "" if isinstance(error, OSError) else str(error).split("\n", 1)[0][:SHOWN_CHARACTERS]
    return ServeError(f"the inference script failed: {name}: {shown}".rstrip(": "),
                      code="inference_error")  # fmt: skip


def _next(pieces: Iterator[Any], end: object) -> Any:
    """The next piece of a streamed answer, `end` after the last one."""
    try:
        return next(pieces, end)
    except SystemExit as error:
        raise RuntimeError(f"the inference script ended the process: {error}") from error


def to_bytes(response: Any) -> bytes:
    """The body of a handler function's response."""
    if isinstance(response, bytes | bytearray | memoryview):
        return bytes(response)
    if isinstance(response, str):
        return response.encode()
    return json.dumps(response).encode()
