"""What a model on CPU takes of the processors: by its sizes alone, the same at every start."""

import threading

import pytest

from sm_serve.config import Settings
from sm_serve.engines import processors
from sm_serve.engines.processors import Processors, choose_replicas, twin, use_processors

pytestmark = pytest.mark.slow  # imports torch


@pytest.fixture
def torch(monkeypatch):
    import torch

    before = torch.get_num_threads()
    monkeypatch.setattr(processors, "available_cpus", lambda: 2)
    yield torch
    torch.set_num_threads(before)


def layers(torch, width, count=2):
    model = torch.nn.Sequential(*(torch.nn.Linear(width, width) for _ in range(count)))
    model.device = torch.device("cpu")
    return model


@pytest.mark.parametrize(("width", "chosen"), [(64, 1), (384, 2), (1024, 2)])
def test_a_small_model_gets_one_thread_and_a_large_one_all(torch, width, chosen):
    """Twenty starts beside a thread that keeps a processor busy, and one decision."""
    model = layers(torch, width)
    stop = threading.Event()

    def disturb():
        values = torch.randn(300, 300)
        while not stop.is_set():
            values @ values

    other = threading.Thread(target=disturb)
    other.start()
    decisions = set()
    for _ in range(20):
        use_processors(model)
        decisions.add((torch.get_num_threads(), choose_replicas(model, Settings())))
    stop.set()
    other.join()
    assert decisions == {(chosen, chosen)}


@pytest.mark.parametrize(
    ("cpus", "settings", "expected"),
    [
        (64, {}, processors.MOST_REPLICAS),
        (2, {"replicas": 3}, 3),
        (2, {"workers": 5}, 5),
        (2, {"workers": 5, "replicas": 1}, 1),
    ],
)
def test_settings_go_before_the_rule_which_has_a_bound(
    torch, monkeypatch, cpus, settings, expected
):
    monkeypatch.setattr(processors, "available_cpus", lambda: cpus)
    model = layers(torch, 384)
    use_processors(model)
    assert choose_replicas(model, Settings(**settings)) == expected


def test_twins_share_every_tensor_and_no_module(torch):
    model = layers(torch, 8)
    model.register_buffer("places", torch.arange(4))
    model.packed = torch.ones(3)
    model[0].weight = model[1].weight  # tied
    other = twin(model)
    assert other[0] is not model[0]
    assert other[0].weight is other[1].weight is model[0].weight
    assert other.places is model.places
    assert other.packed is model.packed
    other[1] = torch.nn.Identity()
    assert type(model[1]) is torch.nn.Linear


def test_a_lone_batch_has_all_processors_and_several_share_them(torch):
    torch.set_num_threads(1)
    shared = Processors(4)
    seen = {}
    inside, leave = threading.Barrier(3), threading.Event()

    def batch(name):
        with shared.share():
            seen[name] = torch.get_num_threads()
            inside.wait()
            leave.wait()

    with shared.share():
        assert torch.get_num_threads() == 4
    threads = [threading.Thread(target=batch, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    inside.wait()
    with shared.share():
        assert torch.get_num_threads() == 1
    leave.set()
    for thread in threads:
        thread.join()
    assert sorted(seen.values()) == [2, 4]
    with shared.share():
        assert torch.get_num_threads() == 4
