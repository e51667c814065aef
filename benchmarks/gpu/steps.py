"""The steps of the GPU run in order of risk; as a program: runs one, and writes its figures.

python benchmarks/gpu/steps.py NAME FILE
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

_TRAIN = ("trl", "datasets", "peft")
_SAME = "a GPU: it is the code of mfu-1b-lora"
_SERVE = ("starlette", "uvicorn", "sagemaker_inference")


@dataclass(frozen=True)
class Step:
    """One step.

    Attributes:
        name: as `--only` and `--skip` know it.
        limit: seconds after which it is ended.
        packages: without one of which it is skipped.
        gpu_only: what a CPU lacks, where a dry run must leave it out.
        gpus: how many it needs.
        gpu_packages: as `packages`, but not in a dry run.
    """

    name: str
    limit: int
    packages: tuple[str, ...] = _TRAIN
    gpu_only: str = ""
    gpus: int = 1
    gpu_packages: tuple[str, ...] = ()


STEPS = (
    Step("sft", 75),
    Step("lora", 120),
    Step("qlora", 150, gpu_packages=("bitsandbytes",)),
    Step("compiled", 75, gpu_only="a GPU, for Triton"),
    Step("fsdp", 120, gpu_only="two GPUs", gpus=2),
    Step("vllm", 180, (*_TRAIN, *_SERVE, "vllm"), gpu_only="a GPU for vLLM"),
    Step("continuous", 120, (*_TRAIN, *_SERVE)),
    Step("preferences", 90),
    Step("memory", 90, gpu_only="a GPU's memory"),
    Step("resume", 75),
    Step("mfu-1b-lora", 60),
    Step("mfu-1b-full", 60, gpu_only=_SAME),
    Step("against-trl", 90),
    Step("serving", 75, (*_TRAIN, *_SERVE)),
    Step("serving-vllm", 120, (*_TRAIN, *_SERVE, "vllm"), gpu_only="a GPU for vLLM"),
    Step("mfu-8b-lora", 100, gpu_only=_SAME),
    Step("mfu-8b-full", 120, gpu_only=_SAME),
)


def functions() -> dict[str, Callable[[], dict[str, Any]]]:
    """What each step does."""
    import correctness
    import speed

    return {
        "sft": correctness.sft,
        "lora": correctness.lora,
        "qlora": correctness.qlora,
        "compiled": correctness.compiled,
        "fsdp": correctness.fsdp,
        "vllm": correctness.vllm,
        "continuous": correctness.continuous,
        "preferences": correctness.preferences,
        "memory": correctness.memory,
        "resume": correctness.resume,
        "mfu-1b-lora": lambda: speed.utilisation("1b", lora=True, batch=8),
        "mfu-1b-full": lambda: speed.utilisation("1b", lora=False, batch=8),
        "against-trl": speed.against_trl,
        "serving": lambda: speed.serving("continuous"),
        "serving-vllm": lambda: speed.serving("vllm"),
        "mfu-8b-lora": lambda: speed.utilisation("8b", lora=True, batch=4),
        "mfu-8b-full": lambda: speed.utilisation("8b", lora=False, batch=4),
    }


def perform(name: str, answer: Path) -> None:
    """Run a step and write its figures."""
    answer.write_text(json.dumps(functions()[name]()), encoding="utf-8")


if __name__ == "__main__":
    perform(sys.argv[1], Path(sys.argv[2]))
