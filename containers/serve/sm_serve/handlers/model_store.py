"""Several models in one container, loaded and unloaded by the platform while it runs."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from sm_serve.artefact.artefact import inspect
from sm_serve.config import Settings
from sm_serve.errors import BadRequest, Conflict, NotFound, OutOfMemory, StartupError
from sm_serve.handlers.answer import Answer, Incoming
from sm_serve.handlers.engine import EngineHandler, Handler
from sm_serve.handlers.member import Member
from sm_serve.handlers.scripts import DEFAULT_PROGRAM, check_functions, find_script
from sm_serve.protocol import Engine

MAX_NAME = 1024
UNLOAD_POLL_SECONDS = 0.02


class ModelStore:
    """Loaded models by name; each has an engine of its own."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._loaded: dict[str, tuple[str, Handler]] = {}
        self._loading: set[str] = set()
        self._uses: Counter[Handler] = Counter()
        self.engine: Engine | None = None

    def names(self) -> list[tuple[str, str]]:
        """Names and locations of the loaded models."""
        return [(name, url) for name, (url, _) in sorted(self._loaded.items())]

    def get(self, name: str) -> tuple[str, Handler]:
        """Location and handler of a model. Raises NotFound."""
        if name not in self._loaded:
            raise NotFound(f"model {name!r} is not loaded", code="model_not_found")
        return self._loaded[name]

    @contextlib.contextmanager
    def using(self, name: str) -> Iterator[Handler]:
        """A model's handler, which is not closed inside. Raises NotFound."""
        _, handler = self.get(name)
        self._uses[handler] += 1
        try:
            yield handler
        finally:
            self._uses[handler] -= 1

    async def load(self, name: str, url: str) -> None:
        """Loads a model from a directory below the base directory.

        Raises Conflict where it is loaded already, OutOfMemory where there is no room for it.
        """
        if not name or len(name) > MAX_NAME or not name.isprintable():
            raise BadRequest(f"model_name={name[:40]!r}: give a printable name")
        if name in self._loaded or name in self._loading:
            raise Conflict(f"model {name!r} is loaded already", code="model_already_loaded")
        if len(self._loaded) + len(self._loading) >= self._settings.max_models:
            raise OutOfMemory(
                f"{self._settings.max_models} models are loaded already: unload one first"
            )
        path = Path(url).resolve()
        if not path.is_relative_to(self._settings.base_dir.resolve()):
            raise BadRequest(f"url={url!r} is not below {self._settings.base_dir}")
        self._loading.add(name)
        try:
            handler = await asyncio.to_thread(self._build, path)
            await handler.warm_up()
        except StartupError as error:
            raise BadRequest(f"model {name!r} cannot be served: {error}") from error
        except MemoryError as error:
            raise OutOfMemory(f"there is no memory left for model {name!r}") from error
        finally:
            self._loading.discard(name)
        self._loaded[name] = (url, handler)

    def _build(self, path: Path) -> Handler:
        settings = self._settings
        script = find_script(
            path,
            settings.program,
            settings.submit_directory,
            required=settings.program not in ("", DEFAULT_PROGRAM),
        )
        if script is not None:
            check_functions(script)
            return Member(path, settings)
        from sm_serve.engines.registry import load_engine

        return EngineHandler(load_engine(inspect(path, self._settings), self._settings),
                             self._settings)  # fmt: skip

    async def unload(self, name: str) -> None:
        """Forgets a model at once, and closes it after its last answer."""
        _, handler = self.get(name)
        del self._loaded[name]
        while self._uses[handler]:
            await asyncio.sleep(UNLOAD_POLL_SECONDS)
        del self._uses[handler]
        await asyncio.to_thread(handler.close)

    async def invoke(self, request: Incoming) -> Answer:
        """A request without a model's name cannot be answered."""
        raise BadRequest("this endpoint has several models: send to /models/{name}/invoke")

    async def warm_up(self) -> None:
        """Nothing is loaded yet."""

    def health(self) -> str | None:
        """Broken when one model is."""
        for name, (_, handler) in self._loaded.items():
            if (reason := handler.health()) is not None:
                return f"model {name!r}: {reason}"
        return None

    def close(self) -> None:
        """Releases all models."""
        for _, handler in self._loaded.values():
            handler.close()
