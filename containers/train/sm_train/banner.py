"""The first lines of a job's log: what runs, on what, with which data."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from sm_train.callbacks import print_line
from sm_train.job import Job

_STACK = ("torch", "transformers", "trl", "peft", "datasets", "accelerate")


def print_banner(job: Job) -> None:
    """Versions, devices, attention and the sizes of the splits. Imports torch."""
    if not job.is_main:
        return
    import torch

    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    stack = " ".join(f"{name}={_version(name)}" for name in _STACK)
    print_line(f"versions: python={platform.python_version()} {stack}")
    print_line(f"devices: {', '.join(devices) or f'CPU, {torch.get_num_threads()} threads'}")
    print_line(f"method: {job.config.method.name}; base model: {job.model_source}")


def quiet_libraries() -> None:
    """No library draws bars into the log, or says everything twice through the root logger."""
    import datasets
    from transformers.utils import logging

    datasets.disable_progress_bars()
    logging.disable_progress_bar()
    logging.disable_propagation()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "none"
