"""The tasks that are served: one file each, which declares all that other rooms know of it."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache

from sm_serve.protocol import Task
from sm_serve.schemas.fields import Field
from sm_serve.tasks.declaration import Declaration


@cache
def declared() -> Mapping[Task, Declaration]:
    """Every task of this folder."""
    names = (each.name for each in pkgutil.iter_modules(__path__))
    modules = [importlib.import_module(f"{__name__}.{name}") for name in names]
    tasks = [module.TASK for module in modules if hasattr(module, "TASK")]
    return {each.task: each for each in sorted(tasks, key=lambda each: each.task)}


def by_architecture() -> Mapping[str, Task]:
    """Ending of an architecture's name to its task; of endings that overlap the longest first."""
    endings = {name: task for task, each in declared().items() for name in each.architectures}
    return {name: endings[name] for name in sorted(endings, key=len, reverse=True)}


def by_alias() -> Mapping[str, Task]:
    """Other names in HF_TASK."""
    return {name: task for task, each in declared().items() for name in each.aliases}


def by_adapter_type() -> Mapping[str, Task]:
    """PEFT's task_type in adapter_config.json: the base model's own architecture may lack it."""
    return {name: task for task, each in declared().items() for name in each.adapter_types}


def heads() -> Mapping[Task, str]:
    """Task to the ending of the architectures that have its head, where it has one."""
    return {task: each.architectures[0] for task, each in declared().items() if each.headed}


def fields_of(task: Task) -> tuple[Field, ...]:
    """The fields of `parameters`; a script's are its own business."""
    known = declared().get(task)
    return known.parameters if known else ()
