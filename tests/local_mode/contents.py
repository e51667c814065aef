"""Runs inside an image: versions and the largest packages of its virtual environment, as JSON."""

import json
import platform
import sys
from importlib.metadata import distributions
from pathlib import Path

NAMED = {"torch", "triton", "transformers", "trl", "peft", "liger-kernel", "bitsandbytes", "vllm",
         "flashinfer-python", "nvidia-cuda-nvcc", "nvidia-nccl-cu13"}  # fmt: skip
LARGEST = 12
MEGABYTE = 1e6


def size(path: Path) -> int:
    """Bytes of a file; none where it is a link, or was removed from the image."""
    return path.stat().st_size if path.is_file() and not path.is_symlink() else 0


installed = list(distributions())
sizes = {
    each.name: sum(size(Path(str(file.locate()))) for file in each.files or []) / MEGABYTE
    for each in installed
}
total = sum(size(path) for path in Path(sys.prefix).rglob("*"))
largest = sorted(sizes, key=lambda name: sizes[name], reverse=True)[:LARGEST]
print(
    json.dumps(
        {
            "python": platform.python_version(),
            "versions": {
                name: each.version
                for each in installed
                if (name := each.name.replace("_", "-")) in NAMED
            },
            "packages": len(installed),
            "megabytes": round(total / MEGABYTE),
            "largest_megabytes": {name: round(sizes[name]) for name in largest},
        }
    )
)
