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
    """Models and running servers by name."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self.root = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        self._models: dict[str, Path] = {}
        self._servers: dict[str, Server] = {}

    def model(self, name: str, make: Callable[[Path], Path]) -> Path:
        """The directory of a model, made on first use."""
        if name not in self._models:
            self._models[name] = make(self.root / "models" / name)
        return self._models[name]

    def server(self, name: str, model: Path, **environ: str) -> Server:
        """A running server, started on first use."""
        if name not in self._servers:
            base = base_with(model, self.root / "servers" / name)
            self._servers[name] = self._stack.enter_context(Server(base, **environ))
        return self._servers[name]

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
    return pool.server("classifier", classifier_dir)


@pytest.fixture(scope="session")
def language_model(pool: Pool, language_model_dir: Path) -> Server:
    return pool.server("language-model", language_model_dir)
