"""The devices that a model runs on, and what they compute in."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sm_serve.config import Settings
from sm_serve.errors import StartupError
from sm_serve.platform import compat

_WANTED = {12: "525", 13: "580"}
"""The oldest drivers of CUDA's major versions (CUDA's release notes)."""


def best_device(settings: Settings) -> str:
    """What SM_SERVE_DEVICE says, else the GPU, else the CPU.

    StartupError where there are GPUs that PyTorch cannot use: on the CPU the answers would be a
    hundred times slower, and nobody would know why.
    """
    import torch

    if settings.device:
        return settings.device
    if torch.cuda.is_available():
        return "cuda"
    files = sorted(Path("/dev").glob("nvidia[0-9]*"))
    driver = compat.driver_version()
    if torch.version.cuda and (files or driver):
        least = _WANTED.get(int(torch.version.cuda.split(".")[0]), "a newer one")
        raise StartupError(
            f"there are GPUs, and PyTorch {torch.__version__} (CUDA {torch.version.cuda}) can use"
            f" none of them with the NVIDIA driver {driver or '(not found)'}; {compat.state()}: use"
            f" a host with driver {least} or later, look at CUDA_VISIBLE_DEVICES, or set"
            " SM_SERVE_DEVICE=cpu"
        )
    return "cpu"


@contextlib.contextmanager
def on_device(device: Any) -> Iterator[None]:
    """Makes a GPU the current one of this thread; "cuda" alone and CPUs change nothing.

    Libraries size caches by the current GPU and start kernels on it, whichever the model lies on.
    """
    import torch

    chosen = torch.device(device or "cpu")
    if chosen.type != "cuda" or chosen.index is None:
        yield
        return
    with torch.cuda.device(chosen):
        yield


def computed_type(saved: Any, device: str, *, narrow: bool) -> Any:
    """The type that a GPU computes weights in which were saved in another; on a CPU float32.

    GPUs before compute capability 8 emulate bfloat16: float16 there. `narrow`: float32 becomes half
    precision, which attention kernels for generation want, and which is what it was trained in.
    """
    import torch

    if torch.device(device).type == "cpu":
        return torch.float32
    half = torch.float16
    if torch.cuda.is_bf16_supported(including_emulation=False):
        half = torch.bfloat16
    if saved == torch.bfloat16 or (narrow and saved == torch.float32):
        return half
    return saved
