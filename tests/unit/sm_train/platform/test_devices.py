"""A GPU instance whose GPUs cannot be used is refused, and a missing network interface replaced."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from sm_train.config import parse_config
from sm_train.contract import Cluster
from sm_train.errors import UserError
from sm_train.launch import process_count
from sm_train.platform import devices
from sm_train.platform.devices import check_devices, check_torch_sees_gpus, gpu_count, torch_cuda
from sm_train.platform.network import with_present_interface

CONFIG = parse_config({"method": "sft"})


def cluster(kind: str) -> Cluster:
    return Cluster(("algo-1",), "algo-1", "eth0", kind)


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A libcuda that says what it is told to."""

    def compiled(version: int, code: int, count: int = 1) -> Path:
        folder = tmp_path_factory.mktemp("driver")
        (folder / "cuda.c").write_text(
            f"int cuInit(unsigned flags) {{ return {code}; }}\n"
            f"int cuDriverGetVersion(int *v) {{ *v = {version}; return 0; }}\n"
            f"int cuDeviceGetCount(int *n) {{ *n = {count}; return 0; }}\n"
        )
        library = folder / "libcuda.so.1"
        subprocess.run(
            ["gcc", "-shared", "-fPIC", "-o", str(library), str(folder / "cuda.c")], check=True
        )
        return library

    return compiled


@pytest.mark.parametrize("kind", ["ml.m5.large", "ml.c7i.2xlarge", "local", "ml.t3.medium"])
def test_a_cpu_instance_needs_no_gpu(kind: str) -> None:
    check_devices(CONFIG, cluster(kind), gpus=0)
    check_torch_sees_gpus(CONFIG, cluster(kind), gpus=0)


@pytest.mark.parametrize(
    ("kind", "gpus"),
    [
        ("ml.g5.xlarge", 0),
        ("ml.p4d.24xlarge", 8),
        ("ml.gr6.4xlarge", 1),
        ("ml.p6-b200.48xlarge", 8),
        ("local_gpu", 0),
        ("local", 1),
    ],
)
def test_without_cuda_in_the_image_a_gpu_instance_is_refused(kind: str, gpus: int) -> None:
    if torch_cuda():
        pytest.skip("this PyTorch is built with CUDA")
    with pytest.raises(UserError, match=r"would train on the CPU: .*built without CUDA") as caught:
        check_devices(CONFIG, cluster(kind), gpus)
    assert kind in str(caught.value)
    assert "use_cpu" in str(caught.value)
    check_devices(parse_config({"method": "sft", "use_cpu": "true"}), cluster(kind), gpus)


def test_a_neuron_instance_is_refused() -> None:
    with pytest.raises(UserError, match="has Neuron devices"):
        check_devices(CONFIG, cluster("ml.trn1.2xlarge"), gpus=0)


@pytest.mark.parametrize(
    ("version", "code", "message"),
    [
        (
            12020,
            0,
            r"the NVIDIA driver is made for CUDA 12.2, and PyTorch wants CUDA 13.0; CUDA's forward "
            r"compatibility \(/usr/local/cuda/compat\) is not in this image\. Fix: use a host with",
        ),
        (13000, 804, "cannot run it by CUDA's forward compatibility .*data centre GPUs alone"),
        (13000, 100, r"finds no GPU \(cuInit returns 100\); CUDA_VISIBLE_DEVICES is ''"),
        (13000, 0, None),
        (13010, 0, None),
    ],
)
def test_the_driver_is_asked(
    version: int,
    code: int,
    message: str | None,
    driver: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    library = ctypes.CDLL(str(driver(version, code)))
    monkeypatch.setattr(devices, "torch_cuda", lambda: "13.0")
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: library)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    if message is None:
        check_devices(CONFIG, cluster("ml.g5.xlarge"), gpus=1)
        return
    with pytest.raises(UserError, match=message):
        check_devices(CONFIG, cluster("ml.g5.xlarge"), gpus=1)


@pytest.mark.parametrize(
    ("count", "code", "settings", "processes"),
    [
        (2, 0, {}, 2),
        (2, 0, {"num_processes": 1}, 1),
        (2, 0, {"use_cpu": "true"}, 1),
        (2, 0, {"use_cpu": "true", "num_processes": 3}, 3),
        (0, 100, {}, 1),  # CUDA_VISIBLE_DEVICES hides all: the driver refuses
        (0, 100, {"num_processes": 2}, 2),
    ],
)
def test_a_process_for_each_gpu_that_the_driver_shows(
    count: int,
    code: int,
    settings: dict[str, str],
    processes: int,
    driver: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    library = ctypes.CDLL(str(driver(13000, code, count)))
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: library)
    assert gpu_count() == (0 if code else count)
    assert process_count(parse_config({"method": "sft", **settings})) == processes


def test_more_processes_than_gpus_are_refused(
    driver: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    library = ctypes.CDLL(str(driver(13000, 0, 2)))
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: library)
    with pytest.raises(UserError, match="num_processes = 4: is more than the 2 GPUs"):
        process_count(parse_config({"method": "sft", "num_processes": "4"}))


def test_no_driver_in_the_container(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(devices, "torch_cuda", lambda: "13.0")
    monkeypatch.setattr(ctypes, "CDLL", absent)
    with pytest.raises(UserError, match=r"no NVIDIA driver .* Fix: let Docker pass the GPUs in"):
        check_devices(CONFIG, cluster("ml.g5.xlarge"), gpus=0)


def test_pytorch_has_the_last_word() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(UserError, match="can use none of them with the NVIDIA driver"):
        check_torch_sees_gpus(CONFIG, cluster("ml.g5.xlarge"), gpus=1)


def test_an_interface_that_is_not_there_is_replaced_by_the_one_to_the_leader() -> None:
    hosts = ("127.0.0.1", "localhost")
    told, said = with_present_interface(Cluster(hosts, "localhost", "ethwe", "local"))
    assert told.interface == "lo"
    assert said.endswith("this host has no ethwe; using lo, which leads to 127.0.0.1")
    assert with_present_interface(told) == (told, "")
    lone = Cluster(("algo-1",), "algo-1", "ethwe", "local")
    assert with_present_interface(lone) == (lone, "")
    unknown, _ = with_present_interface(Cluster(("no.such.host", "b"), "b", "ethwe", "local"))
    assert unknown.interface != "ethwe"
