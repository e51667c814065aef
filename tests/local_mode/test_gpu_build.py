"""Both GPU images on a plain Debian base: what can be shown in them without a GPU.

Gigabytes are downloaded and two large images built, so these run by `make test-gpu-build` only.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from sm_launch import images
from sm_launch.images.building import build_arguments, build_secrets
from sm_launch.images.engine import docker, size

pytestmark = [
    pytest.mark.docker,
    pytest.mark.slow,
    pytest.mark.timeout(7200),
    pytest.mark.skipif(
        not os.environ.get("TEST_GPU_BUILD"), reason="`make test-gpu-build` builds the GPU images"
    ),
]

BASE = "debian:bookworm-slim"
BUDGET_BYTES = {"sm-train": 6_500_000_000, "sm-serve": 12_000_000_000}
HERE = Path(__file__).parent


@pytest.fixture(scope="module", params=images.IMAGES)
def image(request):
    """Built here, or the one that was built before under the tag TEST_GPU_TAG."""
    if tag := os.environ.get("TEST_GPU_TAG"):
        uri = f"sm-{request.param}:{tag}-gpu"
        return images.Image(f"sm-{request.param}", uri, None, size(uri))
    (made,) = images.build("gpu", "gpu-build", base_image=BASE, images=(request.param,))
    return made


def run(image, script: str) -> str:
    """What a Python script prints in a container that can reach nothing."""
    command = ["docker", "run", "--rm", "-i", "--network", "none", image.uri, "python", "-"]
    answer = subprocess.run(command, input=script, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout[-3000:] + answer.stderr[-3000:]
    return answer.stdout.strip()


def test_the_image_is_within_its_size_budget(image, capsys):
    with capsys.disabled():
        print(f"\n{image.uri}: {image.size / 1e9:.2f} of {BUDGET_BYTES[image.name] / 1e9} GB")
    assert image.size < BUDGET_BYTES[image.name]


def test_triton_compiles_its_driver(image):
    """Its first step on any NVIDIA GPU: C code, compiled by the machine's compiler."""
    assert run(image, (HERE / "triton_driver.py").read_text()).endswith("loaded")


def test_torch_compile_has_a_compiler_that_works(image):
    script = (
        "import torch\n"
        "compiled = torch.compile(lambda x: torch.nn.functional.gelu(x) * 2)\n"
        "x = torch.arange(8.0)\n"
        "assert torch.allclose(compiled(x), torch.nn.functional.gelu(x) * 2)\n"
        "print('compiled')"
    )
    assert run(image, script) == "compiled"


def test_flashinfer_compiles_its_kernels(image):
    """What vLLM calls of it is compiled when it is first called, by nvcc."""
    if image.name != "sm-serve":
        pytest.skip("flashinfer is vLLM's")
    assert run(image, (HERE / "flashinfer_kernel.py").read_text()).endswith("compiled")


def test_dependencies_fit(image):
    script = (
        "import subprocess, sys; sys.exit(subprocess.call([sys.executable, '-m', 'pip', 'check']))"
    )
    assert run(image, script) == "No broken requirements found."


def test_everything_can_be_imported(image):
    """But for what asks for a GPU's driver when it is imported."""
    answer = json.loads(run(image, (HERE / "import_all.py").read_text()).splitlines()[-1])
    no_driver = ("libcuda.so", "No CUDA", "no NVIDIA", "CUDA driver", "NVIDIA driver",
                 "libnvidia-encode.so")  # fmt: skip
    failed = {
        name: error
        for name, error in answer["failed"].items()
        if not any(word in error for word in no_driver)
    }
    assert failed == {}
    assert answer["ours"] > 15


def test_what_the_flavour_is_for_is_there(image):
    wanted = {"sm-train": ("liger_kernel", "bitsandbytes", "trl"), "sm-serve": ("vllm", "peft")}
    names = wanted[image.name]
    script = f"import importlib.util as u\nprint([n for n in {names!r} if u.find_spec(n) is None])"
    assert run(image, script) == "[]"


@pytest.mark.skipif(not os.environ.get("TEST_FLASH_ATTN"), reason="compiles for ten minutes")
def test_flash_attn_compiles_from_the_package_indexs_compiler():
    """One head size, forward, for Hopper; the whole takes hours."""
    dockerfile = images.repository() / "containers" / "train" / "Dockerfile"
    tag = "sm-flash-attn:compiler"
    docker("buildx", "build", "--load", "--tag", tag, "--target", "flash-attn-compiler", "--file",
           str(dockerfile), *build_arguments("gpu", BASE, "", None), *build_secrets(None),
           str(dockerfile.parents[1]), show=True)  # fmt: skip
    script = (HERE / "flash_attn_subset.sh").read_text()
    command = ["docker", "run", "--rm", "-i", "--network", "none", tag, "bash", "-s",
               r"flash_fwd_hdim64_bf16(_causal)?_sm80"]  # fmt: skip
    answer = subprocess.run(command, input=script, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout[-3000:] + answer.stderr[-3000:]
    assert re.search(r"imported 2\.\S+\+cu130torch", answer.stdout)
