"""The GPU images on a plain Debian base: what can be shown in them without a GPU.

Gigabytes are downloaded and three large images built, so these run by `make test-gpu-build` only.
What they find is written to the file that TEST_GPU_RESULT names, image by image.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
from engine_images import REQUIREMENTS_FIT, forget

from sm_launch import images
from sm_launch.images.building import build_arguments, build_secrets
from sm_launch.images.engine import docker, image_id, inspect, size

pytestmark = [
    pytest.mark.docker,
    pytest.mark.slow,
    pytest.mark.timeout(7200),
    pytest.mark.skipif(
        not os.environ.get("TEST_GPU_BUILD"), reason="`make test-gpu-build` builds the GPU images"
    ),
]

BASE = "debian:bookworm-slim"
# Image to the options that it is built with, and the bytes that it may take.
MADE = {
    "train": ("train", None, 6_500_000_000),
    "serve": ("serve", None, 9_000_000_000),
    "serve-no-vllm": ("serve", False, 6_000_000_000),
}
HERE = Path(__file__).parent
# Top-level packages that `containers/trim` leaves out: PyNvVideoCodec's samples.
LEFT_OUT = {"samples": "No module named 'samples'"}


@pytest.fixture(scope="module", params=MADE)
def image(request):
    """Built here, or the one that was built before under the tag TEST_GPU_TAG."""
    name, vllm, _ = MADE[request.param]
    if tag := os.environ.get("TEST_GPU_TAG"):
        if vllm is False:
            pytest.skip("under one tag there is one serving image")
        uri = f"sm-{name}:{tag}-gpu"
        return images.Image(request.param, uri, None, size(uri))
    started = time.monotonic()
    tag = "gpu-build" if vllm is None else "gpu-build-no-vllm"
    (made,) = images.build("gpu", tag, base_image=BASE, images=(name,), vllm=vllm)
    built = replace(made, name=request.param)
    record(built, "build_seconds", round(time.monotonic() - started))
    return built


def record(image, what: str, value) -> None:
    """Add to the results of an image; those of another build of it make way."""
    identity = {"id": image_id(image.uri), "base": BASE}
    add_result(image.name, identity, {what: value})


def add_result(name: str, identity: dict, result: dict) -> None:
    if not (file := os.environ.get("TEST_GPU_RESULT")):
        return
    path = images.repository() / file
    path.parent.mkdir(parents=True, exist_ok=True)
    results = json.loads(path.read_text()) if path.is_file() else {}
    known = results.get(name, {})
    same = identity.items() <= known.items()
    results[name] = {**(known if same else identity), **result}
    path.write_text(json.dumps(results, indent=2) + "\n")


def run(image, script: str) -> str:
    """What a Python script prints in a container that can reach nothing."""
    command = ["docker", "run", "--rm", "-i", "--network", "none", image.uri, "python", "-"]
    answer = subprocess.run(command, input=script, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout[-3000:] + answer.stderr[-3000:]
    return answer.stdout.strip()


def has_vllm(image) -> bool:
    """By the labels, which hold the locked versions."""
    return "sm-launch.stack.vllm" in inspect(image.uri)["Config"]["Labels"]


def test_the_image_is_within_its_size_budget(image, capsys):
    budget = MADE[image.name][2]
    with capsys.disabled():
        print(f"\n{image.uri}: {image.size / 1e9:.2f} of {budget / 1e9} GB")
    record(image, "gigabytes", round(image.size / 1e9, 2))
    record(image, "contents", json.loads(run(image, (HERE / "contents.py").read_text())))
    assert image.size < budget


def test_the_bill_of_materials_names_hashes(image):
    if image.sbom is None:
        pytest.skip("the image was not built here")
    components = json.loads(image.sbom.read_text())["components"]
    packages = [each for each in components if "purl" in each]
    hashed = [each for each in packages if "hashes" in each or "externalReferences" in each]
    record(image, "bill_of_materials", {"packages": len(packages), "with_hashes": len(hashed)})
    assert len(hashed) > len(packages) // 2


def test_triton_compiles_its_driver(image):
    """Its first step on any NVIDIA GPU: C code, compiled by the machine's compiler."""
    assert run(image, (HERE / "triton_driver.py").read_text()).endswith("loaded")
    record(image, "triton_driver", "compiled and loaded")


def test_triton_compiles_a_kernel(image):
    assert run(image, (HERE / "triton_kernel.py").read_text()).endswith("compiled")
    record(image, "triton_kernel", "compiled for sm_90")


def test_torch_compile_has_a_compiler_that_works(image):
    script = (
        "import torch\n"
        "compiled = torch.compile(lambda x: torch.nn.functional.gelu(x) * 2)\n"
        "x = torch.arange(8.0)\n"
        "assert torch.allclose(compiled(x), torch.nn.functional.gelu(x) * 2)\n"
        "print('compiled')"
    )
    assert run(image, script) == "compiled"
    record(image, "torch_compile", "compiled, and equal")


def test_flashinfer_compiles_its_kernels(image):
    """What vLLM calls of it is compiled when it is first called, by nvcc."""
    if not has_vllm(image):
        pytest.skip("flashinfer is vLLM's")
    assert run(image, (HERE / "flashinfer_kernel.py").read_text()).endswith("compiled")
    record(image, "flashinfer_kernel", "compiled for sm_90a")


def test_dependencies_fit(image):
    said = run(
        image, "import subprocess, sys; subprocess.call([sys.executable, '-m', 'pip', 'check'])"
    )
    assert said
    assert all(REQUIREMENTS_FIT.fullmatch(line) for line in said.splitlines())
    record(image, "pip_check", said)


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
    without_driver = sorted(set(answer["failed"]) - set(failed))
    left_out = [name for name, error in LEFT_OUT.items() if error in failed.get(name, "")]
    for name in left_out:
        del failed[name]
    record(image, "imports", {"ours": answer["ours"], "others": answer["top"],
                              "need_a_driver": without_driver, "left_out": left_out,
                              "failed": failed})  # fmt: skip
    assert failed == {}
    assert answer["ours"] > 15


def test_vllm_loads_its_kernels(image):
    if not has_vllm(image):
        pytest.skip("vLLM's own")
    said = run(image, (HERE / "vllm_kernels.py").read_text()).splitlines()[-1]
    record(image, "vllm_kernels", said)
    assert said.endswith("loaded")


def test_no_library_was_left_out_that_another_is_linked_to(image):
    missing = json.loads(run(image, (HERE / "linked_libraries.py").read_text()))
    assert missing["libraries"] > 100
    assert missing["missing"] == {}
    record(image, "linked_libraries", missing["libraries"])


def test_what_the_flavour_is_for_is_there(image):
    wanted = {"train": ("liger_kernel", "bitsandbytes", "trl"), "serve": ("peft",)}
    names = [*wanted[MADE[image.name][0]], *(["vllm", "flashinfer"] if has_vllm(image) else [])]
    script = f"import importlib.util as u\nprint([n for n in {names!r} if u.find_spec(n) is None])"
    assert run(image, script) == "[]"
    if not os.environ.get("TEST_GPU_TAG"):
        assert has_vllm(image) == (image.name == "serve")


def test_variables_name_places_that_are_there(image):
    """Nvcc's above all: an image without it must not say where it is."""
    home = run(image, "import os, pathlib\n"
               "home = os.environ.get('CUDA_HOME')\n"
               "print(home and (pathlib.Path(home) / 'bin/nvcc').is_file())")  # fmt: skip
    assert home == ("True" if has_vllm(image) else "None")


# A file then holds fewer variants of its kernel; flash-attn's setup.py names these switches.
WITHOUT = ("DROPOUT", "ALIBI", "SOFTCAP", "LOCAL")


@pytest.mark.skipif(
    not os.environ.get("TEST_FLASH_ATTN"), reason="TEST_FLASH_ATTN=1: compiles for an hour"
)
def test_flash_attn_compiles_from_the_package_indexs_compiler():
    """All forward kernels for Hopper: six head sizes, two types, causal and not."""
    dockerfile = images.repository() / "containers" / "train" / "Dockerfile"
    tag = "sm-flash-attn:compiler"
    docker("buildx", "build", "--load", "--tag", tag, "--target", "flash-attn-compiler", "--file",
           str(dockerfile), *build_arguments("gpu", BASE, "", None), *build_secrets(None),
           str(dockerfile.parents[1]), show=True)  # fmt: skip
    script = (HERE / "flash_attn_subset.sh").read_text()
    kernels = r"flash_fwd_hdim\d+_(bf16|fp16)(_causal)?_sm80"
    switches = " ".join(f"-DFLASHATTENTION_DISABLE_{name}" for name in WITHOUT)
    # What else the machine does goes first.
    command = ["docker", "run", "--rm", "-i", "--network", "none", "--cpu-shares", "64",
               "--env", f"NVCC_APPEND_FLAGS={switches}", tag,
               "nice", "-n", "19", "bash", "-s", kernels]  # fmt: skip
    started = time.monotonic()
    answer = subprocess.run(command, input=script, capture_output=True, text=True, check=False)
    forget(tag)
    assert answer.returncode == 0, answer.stdout[-3000:] + answer.stderr[-3000:]
    imported = re.search(r"imported (2\.\S+\+cu130torch\S+) with 24 forward", answer.stdout)
    assert imported
    identity = {"base": BASE, "torch_label": imported[1].partition("+")[2]}
    add_result("flash-attn", identity, {"kernels": kernels, "forward_kernels": 24,
               "without": [name.lower() for name in WITHOUT], "architecture": "sm_90",
               "imported": imported[1], "seconds": round(time.monotonic() - started)})  # fmt: skip
