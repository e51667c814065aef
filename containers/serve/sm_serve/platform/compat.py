"""CUDA's forward compatibility: a newer CUDA's libraries over an older driver of the machine.

NVIDIA's base images have them in /usr/local/cuda/compat. As in AWS's own images, the loader is told
of them where the driver is of an older branch, and only there: GPUs that are not made for data
centres do not take them. The loader reads its path when a process starts, so this one starts anew.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from sm_serve.platform.renewal import start_anew

FOLDER = Path("/usr/local/cuda/compat")
_LIBRARY = "libcuda.so.1"
_DRIVER = Path("/proc/driver/nvidia/version")
_NUMBER = re.compile(r"\b(\d{3,})\.\d+(\.\d+)?\b")


def driver_version() -> str | None:
    """The machine's NVIDIA driver, such as 535.183.01; None where there is none."""
    try:
        match = _NUMBER.search(_DRIVER.read_text(encoding="utf-8"))
    except OSError:
        return None
    return match[0] if match else None


def library_version() -> str | None:
    """The driver branch that the compatibility libraries are from; None where there are none."""
    match = _NUMBER.search((FOLDER / _LIBRARY).resolve().name)
    return match[0] if match and (FOLDER / _LIBRARY).exists() else None


def state() -> str:
    """What there is of it, for a message about a driver that is too old."""
    library = library_version()
    if library is None:
        return f"CUDA's forward compatibility ({FOLDER}) is not in this image"
    on = "is on" if str(FOLDER) in os.environ.get("LD_LIBRARY_PATH", "").split(":") else "is off"
    return f"CUDA's forward compatibility {on}: {FOLDER} is for driver {library}"


def start_compatibly() -> None:
    """Start this process anew with the compatibility libraries, where the driver wants them."""
    driver, library = driver_version(), library_version()
    paths = [path for path in os.environ.get("LD_LIBRARY_PATH", "").split(":") if path]
    if driver is None or library is None or str(FOLDER) in paths:
        return
    if int(driver.split(".")[0]) >= int(library.split(".")[0]):
        return
    os.environ["LD_LIBRARY_PATH"] = ":".join([str(FOLDER), *paths])
    sys.stdout.write(f"NVIDIA driver {driver}: using the libraries of {library} in {FOLDER}\n")
    start_anew()
