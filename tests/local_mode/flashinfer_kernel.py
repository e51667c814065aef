"""Runs inside the GPU serving image without a GPU: compile one of flashinfer's kernels.

By ninja, nvcc and g++, as at run time; for Hopper, for there is no GPU to ask.
"""

import os
import tempfile

os.environ["FLASHINFER_CUDA_ARCH_LIST"] = "9.0a"
os.environ["FLASHINFER_WORKSPACE_BASE"] = tempfile.mkdtemp()

from flashinfer.jit import norm

norm.gen_norm_module().build(verbose=False)
print("compiled")
