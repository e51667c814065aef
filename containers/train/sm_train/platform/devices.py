"""A GPU instance trains on its GPUs; on its CPU the job would cost as much and take weeks."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import re
from importlib.metadata import version
from pathlib import Path

from sm_train.contract import Cluster
from sm_train.errors import UserError
from sm_train.platform import compat
from sm_train.settings.settings import Config

# Families of the EC2 instance types with NVIDIA GPUs, and the SDK's local mode with them.
_GPU_TYPE = re.compile(r"(ml\.)?(p|g|gr)\d.*|local_gpu")
_NEURON_TYPE = re.compile(r"(ml\.)?(trn|inf)\d.*")
_NO_COMPATIBILITY = {  # CUDA driver API, CUresult
    803: "its libraries do not fit the kernel module",
    804: "NVIDIA offers it for data centre GPUs alone",
}
_NEWER_DRIVER = (
    "use a host with a newer driver (580 or later for CUDA 13, 525 for CUDA 12), or an image with "
    "an older CUDA"
)
_ANYWAY = "use_cpu set to true trains on the CPU all the same"


def gpu_count() -> int:
    """GPUs that this process may use, by the driver's own count: torch is not imported.

    The driver knows of CUDA_VISIBLE_DEVICES and of MIG, and there may be none in /dev (WSL2).
    """
    driver = _driver()
    if driver is None or driver.cuInit(0):
        return 0
    number = ctypes.c_int(0)
    driver.cuDeviceGetCount(ctypes.byref(number))
    return number.value


def check_devices(config: Config, cluster: Cluster, gpus: int) -> None:
    """Raise UserError where the instance type or /dev has GPUs and PyTorch could not use them.

    Asks the driver itself: torch is not imported. `gpus`: as `gpu_count` says.
    """
    kind = cluster.instance_type
    if config.training.get("use_cpu"):
        return
    if _NEURON_TYPE.fullmatch(kind):
        raise UserError(
            "has Neuron devices, which this image's PyTorch does not use",
            field="instance type",
            value=kind,
            fix=f"use a GPU instance type such as ml.g5.xlarge, or a CPU one; {_ANYWAY}",
        )
    if not (gpus or _device_files() or _GPU_TYPE.fullmatch(kind)):
        return
    problem = _problem()
    if problem is None:
        return
    what, fix = problem
    raise UserError(
        f"has GPUs, and the job would train on the CPU: {what}",
        field="instance type" if _GPU_TYPE.fullmatch(kind) else "this machine",
        value=kind,
        fix=f"{fix}; {_ANYWAY}",
    )


def _problem() -> tuple[str, str] | None:
    """What keeps PyTorch from the GPUs, and what to do about it."""
    wanted = torch_cuda()
    if wanted is None:
        return (
            f"PyTorch {version('torch')} in this image is built without CUDA",
            "use the image's GPU flavour (make build FLAVOR=gpu)",
        )
    driver = _driver()
    if driver is None:
        return (
            f"no NVIDIA driver (libcuda.so.1) is in this container, which has {_device_files()} "
            f"GPU devices; PyTorch wants CUDA {wanted}",
            "let Docker pass the GPUs in (--gpus all, with the NVIDIA container toolkit)",
        )
    code = driver.cuInit(0)
    supported = _supported_cuda(driver)
    if int(supported.split(".")[0]) < int(wanted.split(".")[0]):
        return (
            f"{_driver_name()} is made for CUDA {supported}, and PyTorch wants CUDA {wanted}; "
            f"{compat.state()}",
            _NEWER_DRIVER,
        )
    if code in _NO_COMPATIBILITY:
        return (
            f"{_driver_name()} is older than CUDA {wanted}, which PyTorch wants, and cannot run it "
            f"by CUDA's forward compatibility (cuInit returns {code}): {_NO_COMPATIBILITY[code]}",
            _NEWER_DRIVER,
        )
    if code:
        shown = os.environ.get("CUDA_VISIBLE_DEVICES")
        hidden = f"; CUDA_VISIBLE_DEVICES is {shown!r}" if shown is not None else ""
        return (
            f"{_driver_name()} finds no GPU (cuInit returns {code}){hidden}; PyTorch wants CUDA "
            f"{wanted}",
            "look at nvidia-smi on the host, and at CUDA_VISIBLE_DEVICES",
        )
    return None


def _driver() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None


def _device_files() -> int:
    return len(list(Path("/dev").glob("nvidia[0-9]*")))


def torch_cuda() -> str | None:
    """The CUDA version that the installed PyTorch was built with, read without importing it."""
    spec = importlib.util.find_spec("torch")
    folder = next(iter(spec.submodule_search_locations or ()), "") if spec else ""
    text = (Path(folder) / "version.py").read_text(encoding="utf-8")
    match = re.search(r"^cuda\b[^=]*=\s*'([\d.]+)'", text, re.MULTILINE)
    return match[1] if match else None


def _supported_cuda(driver: ctypes.CDLL) -> str:
    """The CUDA version that the driver is made for; it runs that and older ones."""
    number = ctypes.c_int(0)
    driver.cuDriverGetVersion(ctypes.byref(number))
    return f"{number.value // 1000}.{number.value % 1000 // 10}"


def _driver_name() -> str:
    version = compat.driver_version()
    return f"the NVIDIA driver {version}" if version else "the NVIDIA driver"


def check_torch_sees_gpus(config: Config, cluster: Cluster, gpus: int) -> None:
    """The last word is PyTorch's own: raise UserError where it sees no GPU that there should be."""
    import torch

    expected = gpus or _device_files() or _GPU_TYPE.fullmatch(cluster.instance_type)
    if not expected or config.training.get("use_cpu") or torch.cuda.is_available():
        return
    raise UserError(
        f"has GPUs, and PyTorch {torch.__version__} (CUDA {torch.version.cuda}) can use none of "
        f"them with {_driver_name()}: the job would train on the CPU",
        field="instance type",
        value=cluster.instance_type,
        fix=f"use a host whose driver fits this CUDA; {_ANYWAY}",
    )
