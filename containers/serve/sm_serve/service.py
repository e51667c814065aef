"""The served model from loading to the end: what the HTTP routes act on."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import time
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

from sm_serve.artefact import hub
from sm_serve.artefact.artefact import inspect
from sm_serve.config import Settings
from sm_serve.engines.background import describe, in_thread
from sm_serve.engines.process.revival import (
    FIRST_WAIT_SECONDS,
    LASTING_SECONDS,
    LONGEST_WAIT_SECONDS,
)
from sm_serve.errors import NotReady, ServeError, StartupError
from sm_serve.handlers.admission import Admission
from sm_serve.handlers.engine import EngineHandler, Handler
from sm_serve.handlers.model_store import ModelStore
from sm_serve.handlers.reading import Reader
from sm_serve.handlers.scripts import (
    DEFAULT_PROGRAM,
    Script,
    check_functions,
    describe_roles,
    find_script,
    not_run,
)
from sm_serve.platform.renewal import BROKEN_SECONDS, HandedOn
from sm_serve.protocol import AdapterHost, Task, is_mending
from sm_serve.telemetry.emf import Publisher
from sm_serve.telemetry.health import Health, Phase
from sm_serve.telemetry.metrics import Metrics

logger = logging.getLogger(__name__)

PUBLISH_SECONDS = 10.0
"""Interval of CloudWatch metrics."""
PROGRESS_SECONDS = 5.0
"""While a model loads, the log says so this often."""
WATCH_SECONDS = 0.5
CLOSE_SECONDS = 2.0
"""What a broken engine's own end may take."""


class Service:
    """Settings, health, metrics and, once loaded, the handler."""

    def __init__(self, settings: Settings, handed: HandedOn | None = None) -> None:
        self.settings = settings
        self.health = Health()
        self.metrics = Metrics()
        self.admission = Admission(settings)
        self.reader = Reader(settings.max_payload_bytes, settings.max_items)
        self.failure: str | None = None
        self.handed = handed or HandedOn()
        self.working: set[asyncio.Task[Any]] = set()
        self._given_up: str | None = None
        self.task = Task.CUSTOM
        self.script: Script | None = None
        self._handler: Handler | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def check(self) -> None:
        """Refuses a model that cannot be served, in milliseconds and without torch.

        Raises StartupError.
        """
        settings = self.settings
        hub.check(settings, os.environ)
        if settings.multi_model:
            return
        folder = settings.artefact_dir
        self.script = find_script(folder, settings.program, settings.submit_directory)
        if self.script is not None:
            check_functions(self.script)
        elif settings.hub is None:
            self.task = inspect(folder, settings).task
            if files := not_run(folder):
                logger.warning("not run, as none is %s: %s", DEFAULT_PROGRAM, ", ".join(files))

    @property
    def handler(self) -> Handler:
        """The handler; NotReady with the reason while requests cannot be answered."""
        problem = self.health.problem()
        if problem is not None or self._handler is None:
            raise NotReady(f"not ready: {problem or 'the model is loading'}")
        return self._handler

    def start(
        self,
        on_failure: Callable[[], None],
        on_broken: Callable[[HandedOn], None] | None = None,
    ) -> None:
        """Begins to load in the background.

        Args:
            on_failure: called when that fails.
            on_broken: starts the server anew, where that is to be done with an engine that stays
                broken.
        """
        self._begin(self._load(on_failure, on_broken))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.get_running_loop().create_task(work))

    async def _load(
        self,
        on_failure: Callable[[], None],
        on_broken: Callable[[HandedOn], None] | None,
    ) -> None:
        began = time.monotonic()
        progress = asyncio.create_task(self._report(began))
        try:
            handler = await in_thread(self._build, asyncio.get_running_loop())
            self._handler = handler
            await handler.warm_up()
            await self._restore(handler)
        except Exception as error:
            self.failure = describe(error)
            self.health.fail("the model could not be loaded")
            expected = isinstance(error, StartupError)
            logger.error("%s", self.failure, exc_info=None if expected else error)
            on_failure()
            return
        finally:
            progress.cancel()
        self.health.ready(handler.health)
        if self.settings.emf:
            self._begin(self._publish())
        if on_broken is not None:
            self._begin(self._watch(handler, on_broken))
        logger.info("ready after %.1f s", time.monotonic() - began)

    def _build(self, loop: asyncio.AbstractEventLoop) -> Handler:
        """Loads user code or the engine, on a thread of its own."""
        if self.settings.multi_model:
            return ModelStore(self.settings)
        if self.settings.hub is not None:
            self.settings = hub.download(self.settings, self.health.tell)
        if self.script is not None:
            from sm_serve.handlers.script import UserHandler

            logger.info("loading %s: %s", self.script.path,
                        describe_roles(check_functions(self.script)))  # fmt: skip
            handler = UserHandler(self.settings, self.script, loop)
            handler.load()
            return handler
        from sm_serve.engines.registry import start_engine

        artefact = inspect(self.settings.model_dir, self.settings)
        self.task = artefact.task
        logger.info("loading a %s model from %s", artefact.task, artefact.path)
        return EngineHandler(start_engine(artefact, self.settings), self.settings)

    async def _restore(self, handler: Handler) -> None:
        """What clients had loaded and unloaded in the server before this one."""
        changes = self.handed.changes
        work: list[tuple[str, Coroutine[Any, Any, None]]] = []
        if isinstance(handler, ModelStore):
            work += [(name, handler.load(name, url)) for name, url in self.handed.models]
        if isinstance(handler, EngineHandler) and isinstance(handler.engine, AdapterHost):
            engine = handler.engine
            work += [(name, engine.unload_adapter(name)) for name in changes.unloaded]
            work += [(n, engine.load_adapter(n, Path(p))) for n, p in changes.loaded.items()]
        for name, each in work:
            try:
                await each
            except ServeError as error:
                logger.error("%r is not as it was before: %s", name, error.message)

    async def _watch(self, handler: Handler, on_broken: Callable[[HandedOn], None]) -> None:
        """Starts the server anew when its engine stays broken and nothing mends it."""
        began, broken = time.monotonic(), 0.0
        while broken <= BROKEN_SECONDS:
            await asyncio.sleep(WATCH_SECONDS)
            if self.health.draining:
                return
            mended = handler.health() is None or is_mending(handler.engine)
            broken = 0.0 if mended else broken + WATCH_SECONDS
        if time.monotonic() - began > LASTING_SECONDS:
            self.handed.deaths = 0
        self.give_up(handler.health() or "it was broken for long")
        await asyncio.sleep(min(FIRST_WAIT_SECONDS * 2**self.handed.deaths, LONGEST_WAIT_SECONDS))
        self.handed.deaths += 1
        if isinstance(handler, ModelStore):
            self.handed.models = handler.names()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await in_thread(self.close)
        if not self.health.draining:
            on_broken(self.handed)

    def failure_of_engine(self) -> NotReady | None:
        """What is answered once the engine has been given up."""
        reason = self._given_up
        return None if reason is None else NotReady(f"the model does not answer: {reason}")

    def give_up(self, reason: str) -> None:
        """Whoever waits for an answer gets a 503."""
        logger.error("the engine stays broken (%s): starting anew", reason)
        self._given_up = reason
        self.health.fail(reason)
        for task in list(self.working):
            task.cancel()

    async def _report(self, began: float) -> None:
        while True:
            await asyncio.sleep(PROGRESS_SECONDS)
            logger.info("still loading after %.0f s", time.monotonic() - began)

    async def _publish(self) -> None:
        """Writes CloudWatch metrics to the log, each interval those of the interval."""
        publisher = Publisher(self.metrics, self.settings.served_name)
        while True:
            await asyncio.sleep(PUBLISH_SECONDS)
            sys.stdout.write(publisher.line(time.time(), self.stats()) + "\n")
            sys.stdout.flush()

    def about(self) -> Mapping[str, Any]:
        """What /v1/models tells of the model: its context, and the commit of one of the Hub."""
        model, engine = self.settings.hub, self._handler.engine if self._handler else None
        told = {} if model is None else {"root": model.repository, "revision": model.commit}
        context = getattr(engine, "context", None)
        return told if context is None else {**told, "max_model_len": context}

    def stats(self) -> Mapping[str, float]:
        """The engine's gauges."""
        engine = self._handler.engine if self._handler is not None else None
        return engine.stats() if engine is not None else {}

    async def drain(self) -> None:
        """Refuses new requests and waits for those in flight, at most the drain timeout.

        Stays reachable for the lame-duck time even when idle, so that clients about to send get
        a 503 to retry elsewhere instead of a broken connection.
        """
        loading = self.health.phase is Phase.LOADING
        self.health.drain()
        if loading or self.failure is not None:
            return
        began = time.monotonic()
        while True:
            elapsed = time.monotonic() - began
            if self.metrics.in_flight == 0 and elapsed >= self.settings.lame_duck:
                break
            if elapsed >= self.settings.drain_timeout:
                logger.warning("%d requests were cut off by the drain timeout of %g s",
                               self.metrics.in_flight, self.settings.drain_timeout)  # fmt: skip
                break
            await asyncio.sleep(0.02)
        logger.info("drained in %.1f s", time.monotonic() - began)

    def close(self) -> None:
        """Releases the engine, and ends child processes."""
        self.reader.close()
        if self._handler is not None:
            self._handler.close()
