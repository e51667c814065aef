#!/bin/bash
# Runs inside the stage flash-attn-compiler: make a wheel as `make flash-attn-wheel` does, but of the
# kernels alone whose names match $1 and for one architecture, and import it.
set -euo pipefail
cd /tmp
tar xzf /source/flash_attn-*.tar.gz
cd flash_attn-*/
python - "$1" <<'PY'
import re, sys
from pathlib import Path

kept = re.compile(sys.argv[1])
lines = Path("setup.py").read_text().splitlines(keepends=True)
named = [re.search(r'csrc/flash_attn/src/(\S+\.cu)"', line) for line in lines]
chosen = [line for line, name in zip(lines, named) if not name or kept.search(name[1])]
Path("setup.py").write_text("".join(chosen))
print("kernels:", [name[1] for name in named if name and kept.search(name[1])])
PY
FLASH_ATTN_LOCAL_VERSION="$(python /locks/torch-label)"
export FLASH_ATTN_LOCAL_VERSION FLASH_ATTN_CUDA_ARCHS=90 MAX_JOBS="${MAX_JOBS:-1}"
/opt/tools/bin/pip wheel -q --no-deps --no-build-isolation --no-index -w /wheels .
/opt/tools/bin/uv pip install --no-deps --no-index /wheels/*.whl
cd /
python - <<'PY'
import importlib.metadata
import os, subprocess, sys

# The kernels that were left out are looked for when they are called, and not before.
sys.setdlopenflags(os.RTLD_LAZY | os.RTLD_GLOBAL)
import flash_attn
import flash_attn_2_cuda
from flash_attn import flash_attn_func, flash_attn_varlen_func  # noqa: F401

assert {"fwd", "varlen_fwd", "bwd"} <= set(dir(flash_attn_2_cuda))
library = open(flash_attn_2_cuda.__file__, "rb").read()
assert b"sm_90" in library, "no code for the architecture"
symbols = subprocess.check_output(["nm", "-DC", flash_attn_2_cuda.__file__], text=True)
forward = [line for line in symbols.splitlines() if " T void flash::run_mha_fwd_<" in line]
print("imported", importlib.metadata.version("flash-attn"), "with", len(forward), "forward kernels")
PY
