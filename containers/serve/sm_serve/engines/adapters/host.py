"""What engines of this process that host adapters have in common."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from sm_serve.engines.adapters.lora import LoraAdapters
from sm_serve.errors import ServeError, StartupError

UNLOAD_POLL_SECONDS = 0.02


class LoraHost(ABC):
    """An AdapterHost whose adapters are LoRA weights beside the model's."""

    lora: LoraAdapters

    @abstractmethod
    def paused(self) -> AbstractContextManager[None]:
        """No forward pass runs inside: modules of the model may be changed."""

    @abstractmethod
    def close(self) -> None:
        """See the engine's protocol."""

    def load_all(self, adapters: Mapping[str, Path]) -> None:
        """Loads those of the artefact. StartupError, and an end, where one cannot be served."""
        for name, path in adapters.items():
            try:
                self._load(name, path)
            except ServeError as error:
                self.close()
                raise StartupError(f"{path}: {error.message}") from error

    def adapters(self) -> list[str]:
        """See AdapterHost."""
        return self.lora.names()

    async def load_adapter(self, name: str, path: Path) -> None:
        """See AdapterHost."""
        await asyncio.to_thread(self._load, name, path)

    async def unload_adapter(self, name: str) -> None:
        """See AdapterHost."""
        self.lora.retire(name)
        while self.lora.used(name):
            await asyncio.sleep(UNLOAD_POLL_SECONDS)
        await asyncio.to_thread(self._remove, name)

    def _load(self, name: str, path: Path) -> None:
        with self.paused():
            self.lora.load(name, path)

    def _remove(self, name: str) -> None:
        with self.paused():
            self.lora.remove(name)
