"""What a job was, by which it can be run again: `training_record.json` in output/data.

Its inputs are in it by their content, its code and libraries by theirs, and what came out: digests
of the weights and the metrics. `sm-launch reproduce` compares two of them.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import sm_train
from sm_train.contract import read_json
from sm_train.job import Job
from sm_train.loop.digests import file_digest, folder_digest
from sm_train.loop.fingerprint import NAME as FINGERPRINT
from sm_train.results.export import SPEEDS, write_json
from sm_train.results.metrics import finite_or_none
from sm_train.results.proof import processor

RECORD = "training_record.json"
VERSION = 1
# Libraries that the numbers of a training come from.
_LIBRARIES = (
    "accelerate", "datasets", "flash-attn", "liger-kernel", "numpy", "peft", "safetensors",
    "scikit-learn", "sentence-transformers", "tokenizers", "torch", "transformers", "triton", "trl",
    "vllm",
)  # fmt: skip


def write_record(job: Job, trainer: Any, results: Mapping[str, float]) -> None:
    """Write the record of a job whose model is written."""
    fingerprint = read_json(job.paths.checkpoints / FINGERPRINT)
    record = {
        "version": VERSION,
        **{key: fingerprint.get(key) for key in ("method", "model", "data", "hyperparameters")},
        "seed": trainer.args.seed,
        "code": code_digest(),
        "versions": versions(),
        "machine": _machine(trainer),
        "weights": weights(job.paths.model),
        "results": comparable(results),
    }
    write_json(job.paths.output_data / RECORD, record)


def code_digest() -> str:
    """Of this package's source, which the image brings."""
    return folder_digest(Path(sm_train.__file__).parent, "*.py")


def versions() -> dict[str, str]:
    """Of Python and of the libraries that are installed."""
    installed = {
        str(each.metadata["Name"]).lower().replace("_", "-"): each.version
        for each in distributions()
    }
    libraries = {name: installed[name] for name in _LIBRARIES if name in installed}
    return {"python": platform.python_version(), **libraries}


def weights(folder: Path) -> dict[str, str]:
    """The digest of each file of weights in an artefact, adapters too."""
    files = (path for kind in ("safetensors", "bin", "onnx") for path in folder.rglob(f"*.{kind}"))
    return {
        path.relative_to(folder).as_posix(): f"sha256:{file_digest(path)}" for path in sorted(files)
    }


def comparable(results: Mapping[str, float]) -> dict[str, float | None]:
    """Metrics without speeds, which no two runs share."""
    return {
        key: finite_or_none(value) for key, value in results.items() if not key.endswith(SPEEDS)
    }


def _machine(trainer: Any) -> dict[str, Any]:
    """What arithmetic ran on: the same numbers come only from the same one."""
    import torch

    count = torch.cuda.device_count()
    return {
        "processor": processor(),
        "devices": [torch.cuda.get_device_name(index) for index in range(count)],
        "cuda": torch.version.cuda if count else None,
        "threads": torch.get_num_threads(),
        "processes": trainer.args.world_size,
        "instructions": torch.backends.cpu.get_cpu_capability(),
    }
