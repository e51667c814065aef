"""flash-attn's wheel: compiled once (`make flash-attn-wheel`), found again by its hash."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from sm_launch.errors import LaunchError
from sm_launch.images import bases
from sm_launch.images.building import build_arguments, build_secrets
from sm_launch.images.checkout import repository
from sm_launch.images.engine import docker

_PIN = re.compile(r"^(flash-attn==\S+)", re.MULTILINE)
_HASH = re.compile(r"--hash=(sha256:[0-9a-f]{64})")
_MAX_JOBS = 2


def build_wheel(
    *,
    root: Path | None = None,
    base_image: str | None = None,
    max_jobs: int = _MAX_JOBS,
    index_url: str | None = None,
    ca_bundle: Path | None = None,
) -> list[Path]:
    """Compile flash-attn for the GPU flavour's torch and Python; hours on few cores.

    The wheel is put into `containers/wheelhouse/gpu`, its hash into
    `containers/flash-attn/wheels.txt`.

    Args:
        root: the repository; default: the one that this module is in.
        base_image: the image's base; default: what containers/bases.txt names.
        max_jobs: compilers at once; each takes up to 9 GB of memory.
        index_url: package index instead of PyPI.
        ca_bundle: certificates of a company proxy, for the build only; default: the system's.

    Raises:
        LaunchError: docker or the compilation failed.
    """
    root = root or repository()
    base = base_image or bases.base_image(root, "gpu")
    arguments = build_arguments("gpu", base, "", index_url)
    arguments += ["--build-arg", f"MAX_JOBS={max_jobs}"]
    wheelhouse = root / "containers" / "wheelhouse" / "gpu"
    before = set(wheelhouse.glob("flash_attn-*.whl"))
    docker("buildx", "build", "--target", "flash-attn-wheel",
           "--output", f"type=local,dest={wheelhouse}",
           "--file", str(root / "containers" / "train" / "Dockerfile"),
           *arguments, *build_secrets(ca_bundle), str(root / "containers"), show=True)  # fmt: skip
    wheels = sorted(wheelhouse.glob("flash_attn-*.whl"))
    made = [wheel for wheel in wheels if wheel not in before] or wheels
    if not made:
        raise LaunchError("the build made no wheel", value=str(wheelhouse))
    record(made, root / "containers" / "flash-attn" / "wheels.txt")
    return made


def record(wheels: Sequence[Path], lock: Path) -> None:
    """Add the hashes of wheels of one version to the lock file, which drops other versions."""
    version = wheels[0].name.split("-")[1]
    pin = f"flash-attn=={version}"
    text = lock.read_text()
    known = _HASH.findall(text) if _PIN.findall(text) == [pin] else []
    hashes = dict.fromkeys([*known, *(_sha256(wheel) for wheel in wheels)])
    comment = "".join(line for line in text.splitlines(keepends=True) if line.startswith("#"))
    lines = " \\\n".join([pin, *(f"    --hash={each}" for each in hashes)])
    lock.write_text(f"{comment}{lines}\n")


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}"
