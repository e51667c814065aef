"""Fill a folder with the packages that a bare machine with CUDA PyTorch lacks, as wheels.

    python benchmarks/gpu/wheels.py [--out benchmarks/gpu/wheels] [--python 3.12] [--cuda 130]

Versions are those of this repository's locks. Only what benchmarks/gpu/run.py imports is taken, and
of bitsandbytes only the library of one CUDA version, so that all of it fits 60 MB. PyTorch itself,
with CUDA's libraries and Triton, must be on the machine.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_LOCKS = ("locks/dev.txt", "containers/train/locks/gpu.txt")
_BINARY = (
    *("accelerate", "bitsandbytes", "datasets", "dill", "httptools", "huggingface-hub"),
    *("liger-kernel", "llguidance", "multiprocess", "peft", "psutil", "starlette", "tokenizers"),
    *("transformers", "trl", "uvicorn", "xxhash"),
)
_SOURCE = ("sagemaker-inference", "retrying")
_PLATFORMS = [*(f"manylinux_2_{n}_x86_64" for n in range(39, 16, -1)), "manylinux2014_x86_64"]
_MOST_BYTES = 60_000_000
_CUDA_LIBRARY = re.compile(r"libbitsandbytes_(cuda|rocm|xpu|hip)(\d*).*\.so")


def main() -> None:
    """Download, cut down, and say how large it is."""
    made = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    made.add_argument("--out", type=Path, default=Path(__file__).with_name("wheels"))
    made.add_argument("--python", default="3.12", help="the machine's")
    made.add_argument("--cuda", default="130", help="the machine's PyTorch's, without the dot")
    options = made.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for old in options.out.glob("*.whl"):
        old.unlink()
    versions = locked()
    _pip("download", options.out, _pinned(_BINARY, versions), "--only-binary=:all:",
         f"--python-version={options.python}",
         *(f"--platform={name}" for name in _PLATFORMS))  # fmt: skip
    # Our own for their versions; the code that runs is the checkout's.
    ours = [str(ROOT / "containers" / name) for name in ("train", "serve")]
    _pip("wheel", options.out, [*_pinned(_SOURCE, versions), *ours])
    for wheel in options.out.glob("bitsandbytes-*.whl"):
        keep_one_cuda(wheel, options.cuda)
    size = sum(path.stat().st_size for path in options.out.glob("*.whl"))
    print(f"{len(list(options.out.glob('*.whl')))} wheels, {size / 1e6:.1f} MB, in {options.out}")
    if size > _MOST_BYTES:
        raise SystemExit(f"more than {_MOST_BYTES / 1e6:.0f} MB")


def locked() -> dict[str, str]:
    """Versions of the locks, the first that has a package counts."""
    versions: dict[str, str] = {}
    for lock in _LOCKS:
        for line in (ROOT / lock).read_text(encoding="utf-8").splitlines():
            if match := re.match(r"([A-Za-z0-9._-]+)==([^ ;\\]+)", line):
                versions.setdefault(match[1].lower(), match[2])
    return versions


def _pinned(names: tuple[str, ...], versions: dict[str, str]) -> list[str]:
    return [f"{name}=={versions[name]}" if name in versions else name for name in names]


def _pip(command: str, out: Path, packages: list[str], *others: str) -> None:
    folder = "--dest" if command == "download" else "--wheel-dir"
    subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", command, "--quiet",
         "--no-deps", folder, str(out), *others, *packages],
        check=True,
    )  # fmt: skip


def keep_one_cuda(wheel: Path, version: str) -> None:
    """Write the wheel again without the libraries of other CUDA versions and other makers."""
    cut = wheel.with_suffix(".cut")
    with zipfile.ZipFile(wheel) as whole, zipfile.ZipFile(cut, "w", zipfile.ZIP_DEFLATED) as kept:
        for entry in whole.infolist():
            match = _CUDA_LIBRARY.search(entry.filename)
            if match is None or (match[1], match[2]) == ("cuda", version):
                kept.writestr(entry, whole.read(entry))
    cut.replace(wheel)


if __name__ == "__main__":
    main()
