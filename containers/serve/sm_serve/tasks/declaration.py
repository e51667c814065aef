"""What a task's file declares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sm_serve.protocol import Task
from sm_serve.schemas.fields import Field


@dataclass(frozen=True, slots=True)
class Declaration:
    """All that other rooms know of a task.

    Attributes:
        task: its name, by which HF_TASK asks for it.
        model_class: transformers' class that loads its models.
        architectures: endings of the names of the models that have it, its own head's first.
        engine: "module:Class"; empty where settings and model choose among several.
        parameters: what `parameters` of our own format may hold.
        aliases: other names for it in HF_TASK.
        adapter_types: PEFT's task_type of its adapters.
        headed: whether its models have a head of their own, which a base model may lack.
        adapted_head: whether an adapter may bring that head.
        labelled: whether the head may have any number of labels.
        warm_up: inputs of the first small request.
    """

    task: Task
    model_class: str
    architectures: tuple[str, ...]
    parameters: tuple[Field, ...]
    engine: str = ""
    aliases: tuple[str, ...] = ()
    adapter_types: tuple[str, ...] = ()
    headed: bool = True
    adapted_head: bool = True
    labelled: bool = False
    warm_up: tuple[Any, ...] = ("warm up",)
