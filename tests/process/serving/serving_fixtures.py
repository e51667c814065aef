"""Fixtures for every folder that tests the server: models and servers are made once a run."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import serving_models as models
from serving_process import Server, base_with

POOL = pytest.StashKey["Pool"]()


class Pool:
    """Models by test file and name, and running servers of them."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self.root = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        self._models: dict[tuple[str, str], Path] = {}
        self._servers: dict[tuple[object, ...], Server] = {}

    def model(self, name: str, make: Callable[[Path], Path]) -> Path:
        """The directory of a model, made on first use; each test file has names of its own."""
        owner = make.__module__
        if (owner, name) not in self._models:
            self._models[owner, name] = make(self.root / "models" / owner / name)
        return self._models[owner, name]

    def server(self, model: Path, **environ: str) -> Server:
        """A running server of a model, started on first use."""
        key = (model, *sorted(environ.items()))
        if key not in self._servers:
            base = base_with(model, self.root / "servers" / str(len(self._servers)))
            self._servers[key] = self._stack.enter_context(Server(base, **environ))
        return self._servers[key]

    def close(self) -> None:
        """Ends servers, removes files."""
        self._stack.close()


@pytest.fixture(scope="session")
def pool(request: pytest.FixtureRequest) -> Pool:
    """One pool a run, shared by all folders."""
    stash = request.config.stash
    if POOL not in stash:
        stash[POOL] = Pool()
        request.config.add_cleanup(stash[POOL].close)
    return stash[POOL]


@pytest.fixture(scope="session")
def classifier_dir(pool: Pool) -> Path:
    return pool.model("classifier", models.classifier)


@pytest.fixture(scope="session")
def language_model_dir(pool: Pool) -> Path:
    return pool.model("language-model", models.language_model)


@pytest.fixture(scope="session")
def classifier(pool: Pool, classifier_dir: Path) -> Server:
    return pool.server(classifier_dir)


@pytest.fixture(scope="session")
def language_model(pool: Pool, language_model_dir: Path) -> Server:
    return pool.server(language_model_dir)
