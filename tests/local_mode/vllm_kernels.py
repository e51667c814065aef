"""Runs inside the GPU serving image without a GPU: load what vLLM loads when it starts on one.

Its compiled kernels, its worker, and what that brings of other packages. An empty library stands
in for the driver's: what it lacks is looked for when it is called, and not before.
"""

import ctypes
import importlib
import os
import sys
from pathlib import Path

import vllm

stub = Path(os.environ["CUDA_HOME"]) / "lib" / "stubs" / "libcuda.so"
ctypes.CDLL(str(stub), mode=ctypes.RTLD_GLOBAL)
sys.setdlopenflags(os.RTLD_LAZY)
folder = Path(vllm.__file__).parent
kernels = [
    ".".join(path.relative_to(folder.parent).parts).partition(".abi3.so")[0]
    for path in sorted(folder.rglob("*.abi3.so"))
]
assert len(kernels) > 5, kernels
modules = ("vllm.platforms.cuda", "vllm.v1.engine.async_llm", "vllm.v1.worker.gpu_model_runner",
           "vllm.distributed.device_communicators.pynccl", "nccl.core", "nccl.ep",
           "cutlass.cute", "flashinfer.moe_ep")  # fmt: skip
failed = {}
for name in (*kernels, *modules):
    try:
        importlib.import_module(name)
    except Exception as error:
        failed[name] = f"{type(error).__name__}: {error}"
assert not failed, failed
print(f"{len(kernels)} libraries of kernels and {len(modules)} modules loaded")
