"""Runs inside a GPU image without a GPU: let Triton compile and load its driver utilities.

Where there is no libcuda, a stub with the functions that are asked for stands in for it.
"""

import ctypes
import os
import re
import subprocess
import tempfile
from pathlib import Path

import triton.backends.nvidia.driver as driver

folder = Path(tempfile.mkdtemp())
source = Path(driver.__file__).with_name("driver.c").read_text()
names = sorted(set(re.findall(r"\bcu[A-Z]\w+", source)))
(folder / "stub.c").write_text("".join(f"int {name}(void) {{ return 0; }}\n" for name in names))
compiler = os.environ.get("CC", "gcc")
# By this name the loader knows what is loaded already.
named = "-Wl,-soname,libcuda.so.1"
for library in ("libcuda.so.1", "libcuda.so"):
    subprocess.run(
        [compiler, "-shared", "-fPIC", named, "-o", folder / library, folder / "stub.c"],
        check=True,
    )
os.environ |= {"TRITON_LIBCUDA_PATH": str(folder), "TRITON_CACHE_DIR": str(folder / "cache")}
ctypes.CDLL(str(folder / "libcuda.so.1"), mode=ctypes.RTLD_GLOBAL)
driver.CudaUtils()
print("loaded")
