"""Several LoRA adapters of one encoder: each answers with its own head and its own names.

A batch of an encoder is answered by one adapter, so that a head of any shape can stand in the
model's own for the time of a forward pass.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

from sm_serve.artefact.adapter_head import task_of
from sm_serve.artefact.artefact import ADAPTER_CONFIG
from sm_serve.engines.adapters.lora import PLAIN, LoraAdapters
from sm_serve.engines.adapters.saved_modules import build_modules, swapped
from sm_serve.errors import ADAPTER_REQUIRED, BadRequest, StartupError
from sm_serve.protocol import Task
from sm_serve.tasks import declared


class Extra(NamedTuple):
    """What an adapter brings beside its LoRA."""

    modules: Mapping[str, Any]
    profile: Any


class EncoderLoraAdapters(LoraAdapters):
    """`gaps` are the head's parameters that the base model lacks: it cannot answer by itself.

    A profile is what an engine must know to read the outputs: the labels, say. `read_profile` finds
    that of an adapter's directory, or raises StartupError.
    """

    plain = PLAIN

    def __init__(
        self, model: Any, limit: int, task: Task, read_profile: Callable[[Path], Any]
    ) -> None:
        super().__init__(model, limit)
        self._task = task
        self._read_profile = read_profile
        self.gaps: Set[str] = frozenset()

    @contextlib.contextmanager
    def using(self, name: str | None) -> Iterator[None]:
        """See LoraAdapters. BadRequest where the base model is asked and has no head."""
        if name is None and self.gaps:
            raise BadRequest(
                f"the base model has no head for {self._task}: name one of its adapters"
                f" ({', '.join(self.names()) or 'none is loaded'})",
                code=ADAPTER_REQUIRED,
            )
        with super().using(name):
            yield

    def profile(self, name: str | None, base: Any) -> Any:
        """What the adapter says of its outputs; `base` where none is asked for or it is gone."""
        extra = self._extras.get(name) if name is not None else None
        return base if extra is None else extra.profile

    @contextlib.contextmanager
    def through(self, name: str | None) -> Iterator[None]:
        """The forward passes inside are those of one adapter, or of the base model."""
        self.route_all(name)
        extra = self._extras.get(name) if name is not None else None
        if extra is None or not extra.modules:
            yield
            return
        with swapped(self._model, extra.modules):
            yield

    def trial(self, name: str) -> AbstractContextManager[None]:
        """See LoraAdapters."""
        return self.through(name)

    def read_extra(self, path: Path, config: Mapping[str, Any], others: Mapping[str, Any]) -> Any:
        """See LoraAdapters."""
        task = task_of(config)
        if task not in (None, self._task):
            raise BadRequest(
                f"{ADAPTER_CONFIG}: task_type={config['task_type']!r} is {task}, and this model is"
                f" served for {self._task}"
            )
        names = [str(name) for name in config.get("modules_to_save") or []]
        modules = build_modules(
            self._model, names, others, resizable=declared()[self._task].labelled
        )
        brought = {
            f"{place}.{name}"
            for place, each in modules.items()
            for name, _ in each.named_parameters()
        }
        if lacking := sorted(self.gaps - brought):
            raise BadRequest(
                f"the adapter does not bring {lacking[0]}, and its base model has none: train with"
                " modules_to_save naming the whole head, or merge before deploying"
            )
        try:
            return Extra(modules, self._read_profile(path))
        except StartupError as error:
            raise BadRequest(str(error)) from error
