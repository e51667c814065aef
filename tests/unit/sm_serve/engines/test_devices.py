"""Which GPU a copy is built on, what it computes in, and how far vLLM spreads a model."""

from __future__ import annotations

import contextlib
import types

import pytest

from sm_serve.config import Settings
from sm_serve.engines import registry
from sm_serve.engines.devices import best_device, computed_type, on_device
from sm_serve.engines.generators.vllm_sizes import divides, tensor_parallel
from sm_serve.errors import StartupError
from sm_serve.platform import compat
from sm_serve.protocol import Task

pytestmark = pytest.mark.slow  # imports torch

GIB = 1 << 30
# Heads, key-value heads, feed-forward width, vocabulary; sizes that vLLM takes of 1 to 8 GPUs.
MODELS = {
    "Qwen2.5-0.5B": ((14, 2, 4864, 151936), [1, 2]),
    "Qwen2.5-7B": ((28, 4, 18944, 152064), [1, 2, 4]),
    "Llama-3.1-8B": ((32, 8, 14336, 128256), [1, 2, 4, 8]),
    "SmolLM2-360M": ((15, 5, 2560, 49152), [1]),
    "SmolLM2-135M": ((9, 3, 1536, 49152), [1, 3]),
    "Phi-4": ((40, 10, 17920, 100352), [1, 2]),
}


def described(heads, key_values, inner, vocabulary, **others):
    made = types.SimpleNamespace(
        num_attention_heads=heads,
        num_key_value_heads=key_values,
        intermediate_size=inner,
        vocab_size=vocabulary,
        **others,
    )
    made.get_text_config = lambda: made
    return made


@pytest.fixture
def gpus(monkeypatch):
    """Lets torch see so many GPUs of a kind, and tells which one is the current one."""
    import torch

    seen = types.SimpleNamespace(current=0)

    def are(count, memory=24 * GIB, native=True):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        card = types.SimpleNamespace(total_memory=memory)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _index: card)
        monkeypatch.setattr(
            torch.cuda,
            "is_bf16_supported",
            lambda including_emulation: native or including_emulation,
        )
        return seen

    @contextlib.contextmanager
    def device(chosen):
        before, seen.current = seen.current, chosen.index
        yield
        seen.current = before

    monkeypatch.setattr(torch.cuda, "device", device)
    return are


@pytest.mark.parametrize("name", MODELS)
def test_vllm_can_deal_out_every_width(name, gpus):
    shape, sizes = MODELS[name]
    assert [size for size in range(1, 9) if divides(described(*shape), size)] == sizes
    for count in (1, 2, 3, 4, 8):
        gpus(count)
        assert tensor_parallel(described(*shape)) == max(s for s in sizes if s <= count)


def test_widths_of_experts_count_and_padding_of_the_vocabulary():
    assert not divides(described(32, 8, 14336, 128256, moe_intermediate_size=700), 8)
    assert divides(described(32, 8, 14336, 49155), 4)


def test_a_small_model_is_copied_and_a_large_one_spread_no_further_than_it_must_be(gpus):
    shape = described(*MODELS["Llama-3.1-8B"][0])
    gpus(8)
    assert [tensor_parallel(shape, gib * GIB) for gib in (1, 9, 16, 30, 70, 500)] == [
        1,
        1,
        2,
        4,
        8,
        8,
    ]


@pytest.mark.parametrize("replicas", [0, 3])
def test_each_copy_is_built_on_its_own_gpu(replicas, gpus, monkeypatch):
    seen = gpus(2)
    built = []

    class Engine:
        @classmethod
        def load(cls, _artefact, settings):
            built.append((settings.device, seen.current))
            return cls()

    monkeypatch.setitem(registry.ENGINES, "transformers", f"{__name__}:Engine")
    monkeypatch.setattr(registry, "choose_engine", lambda *_: "transformers")
    monkeypatch.setattr(
        registry.importlib, "import_module", lambda _: types.SimpleNamespace(Engine=Engine)
    )
    monkeypatch.setattr(registry, "replicate", list)
    registry.load_engine(
        types.SimpleNamespace(task=Task.TEXT_GENERATION, onnx=None), Settings(replicas=replicas)
    )
    assert built == [(f"cuda:{i % 2}", i % 2) for i in range(replicas or 2)]
    assert seen.current == 0
    with on_device("cpu"), on_device("cuda"), on_device(""):
        assert seen.current == 0


@pytest.mark.parametrize(
    ("saved", "native", "narrow", "computed"),
    [
        ("float32", True, True, "bfloat16"),
        ("float32", True, False, "float32"),
        ("float32", False, True, "float16"),
        ("bfloat16", True, False, "bfloat16"),
        ("bfloat16", False, False, "float16"),
        ("float16", True, True, "float16"),
        ("float16", False, False, "float16"),
    ],
)
def test_a_gpu_computes_in_what_it_multiplies_itself(saved, native, narrow, computed, gpus):
    import torch

    gpus(1, native=native)
    dtype = computed_type(getattr(torch, saved), "cuda:0", narrow=narrow)
    assert dtype == getattr(torch, computed)
    assert computed_type(getattr(torch, saved), "cpu", narrow=narrow) == torch.float32


def test_gpus_that_cannot_be_used_are_no_reason_to_serve_on_the_cpu(gpus, monkeypatch):
    import torch

    gpus(0)
    assert best_device(Settings()) == "cpu"
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(compat, "driver_version", lambda: "535.183.01")
    with pytest.raises(StartupError, match=r"CUDA 13.0.*driver 535.183.01.*not in this image.*580"):
        best_device(Settings())
    assert best_device(Settings(device="cpu")) == "cpu"
    gpus(1)
    assert best_device(Settings()) == "cuda"
