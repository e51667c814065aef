"""Which engine serves which artefact: a task's own, or one of the generators."""

from __future__ import annotations

import importlib
import logging
from dataclasses import replace
from typing import Any, cast

from sm_serve.artefact.artefact import Artefact
from sm_serve.config import VLLM_PREFIX, Settings
from sm_serve.engines.devices import best_device, on_device
from sm_serve.errors import StartupError
from sm_serve.protocol import Engine, Generator, Task
from sm_serve.tasks import declared

logger = logging.getLogger(__name__)

GENERATORS = "sm_serve.engines.generators"
ENGINES = {
    **{task.value: each.engine for task, each in declared().items() if each.engine},
    "continuous": f"{GENERATORS}.continuous:ContinuousGenerator",
    "vllm": f"{GENERATORS}.vllm:VllmGenerator",
    "transformers": f"{GENERATORS}.plain:PlainGenerator",
}


def choose_engine(artefact: Artefact, settings: Settings) -> str:
    """The key in ENGINES: the task, and for generation what SM_SERVE_ENGINE and the model allow."""
    if artefact.task is not Task.TEXT_GENERATION:
        return artefact.task.value
    if settings.engine != "auto":
        return settings.engine
    from sm_serve.engines.generators import continuous, vllm

    if vllm.supported(artefact):
        return "vllm"
    return "continuous" if continuous.supported(artefact) else "transformers"


def load_engine(artefact: Artefact, settings: Settings) -> Engine:
    """Loads the engine of the artefact. Blocks for as long as the model takes.

    Raises StartupError where no engine serves the artefact.
    """
    name = choose_engine(artefact, settings)
    if name != "vllm":
        refuse_vllm_settings(name, settings)
    if name not in ENGINES:
        raise StartupError(f"{name} is not served by this container: add code/inference.py")
    module, _, attribute = ENGINES[name].partition(":")
    engine: Any = getattr(importlib.import_module(module), attribute)
    if name == "vllm":  # spreads one model over all GPUs by itself
        return cast(Engine, engine.load(artefact, settings))
    encodes = artefact.task is not Task.TEXT_GENERATION
    # A model as ONNX is for CPUs, on whatever machine.
    if encodes and (artefact.onnx or best_device(settings) == "cpu"):
        loaded = engine.load_replicas(artefact, settings)
        return cast(Engine, loaded[0] if len(loaded) == 1 else replicate(loaded))
    devices = choose_devices(settings)
    loaded = []
    for device in devices:
        with on_device(device):  # its cache is sized by the current GPU
            loaded.append(engine.load(artefact, replace(settings, device=device)))
    return cast(Engine, loaded[0] if len(loaded) == 1 else replicate(loaded))


def refuse_vllm_settings(engine: str, settings: Settings) -> None:
    """Settings of vLLM for another engine: the operator's are refused, the artefact's are said."""
    if settings.vllm and not settings.multi_model:
        name = f"{VLLM_PREFIX}{settings.vllm[0][0].upper()}"
        raise StartupError(
            f"{name}={settings.vllm[0][1]!r} is an argument of vLLM, and the engine is {engine}:"
            " set SM_SERVE_ENGINE=vllm, or unset it"
        )
    if (file := settings.artefact_dir / "vllm.yaml").is_file():
        logger.warning("%s changes nothing here: the engine is %s", file, engine)


def start_engine(artefact: Artefact, settings: Settings) -> Engine:
    """The engine of a server's one model; an encoder's in a process of its own, unless told not to.

    Raises as load_engine does.
    """
    if artefact.task is Task.TEXT_GENERATION or not settings.engine_process:
        return load_engine(artefact, settings)
    from sm_serve.engines.process.client import ProcessPredictor

    return ProcessPredictor.load(artefact, settings)


def choose_devices(settings: Settings) -> list[str]:
    """A device for each copy of the model: every GPU, or what the settings say; "" is the best."""
    import torch

    count = torch.cuda.device_count()
    if settings.device or count < 2:
        return [settings.device] * max(settings.replicas, 1)
    return [f"cuda:{index % count}" for index in range(settings.replicas or count)]


def replicate(engines: list[Any]) -> Engine:
    """One engine in front of several copies."""
    from sm_serve.engines.replicas import GeneratorReplicas, PredictorReplicas

    if isinstance(engines[0], Generator):
        return GeneratorReplicas(engines)
    return PredictorReplicas(engines)
