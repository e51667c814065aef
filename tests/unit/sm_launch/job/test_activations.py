"""What a step is said to hold, against what torch holds: each live tensor is counted on the CPU."""

from __future__ import annotations

import importlib
import weakref
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sm_launch.job import activations, memory, model_size
from sm_launch.job.activations import Shape, Step, shape_of
from sm_launch.job.hyperparameters import methods

pytestmark = pytest.mark.slow

LLAMA = {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "vocab_size": 300,
         "intermediate_size": 344, "num_key_value_heads": 2}  # fmt: skip
DEEP = LLAMA | {"hidden_size": 64, "num_hidden_layers": 7, "intermediate_size": 192, "head_dim": 32}
QUIET = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
BERT = {"hidden_size": 96, "num_hidden_layers": 4, "num_attention_heads": 4, "vocab_size": 300,
        "intermediate_size": 384} | QUIET  # fmt: skip
ROWS, LENGTH = 3, 160
LORA = Step(ROWS * LENGTH, LENGTH, recomputes=False, rank=8, dropout=False, stream=2)
FULL = Step(ROWS * LENGTH, LENGTH, recomputes=False)


def built(kind: str, config: dict[str, Any], step: Step) -> tuple[Any, Shape]:
    """The model as the trainer makes it: frozen in half precision with adapters, or in float32."""
    import torch
    import transformers

    described = transformers.AutoConfig.for_model(kind, **config)
    shape = shape_of(described.to_dict())
    assert shape is not None
    torch.manual_seed(1)
    model = transformers.AutoModel.from_config(
        described, dtype=torch.bfloat16 if step.stream == 2 else torch.float32
    )
    if step.rank:
        from peft import LoraConfig, get_peft_model

        lora = LoraConfig(r=step.rank, lora_dropout=0.0, target_modules="all-linear")
        model = get_peft_model(model, lora)
    if step.recomputes:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
    return model.train(), shape


def fullest(run: Callable[[], Any], weights: Iterable[Any]) -> int:
    """Bytes of all tensors at a step's fullest moment, without weights and their gradients.

    Autocast's copies of weights are no activations: they are gone before all gradients are there.
    """
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    alive = most = 0
    known, own, copies = set(), set(), []

    class Counting(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
            made = func(*args, **(kwargs or {}))
            if "_to_copy" in str(func) and args[0].untyped_storage()._cdata in own:
                copies.append(made)  # it stays: its place is not given to another
                own.add(made.untyped_storage()._cdata)
            for tensor in tree_leaves(made):
                if isinstance(tensor, torch.Tensor):
                    count(tensor.untyped_storage())
            return made

    def count(storage: Any) -> None:
        nonlocal alive, most
        if storage._cdata in known or storage._cdata in own:
            return
        size, key = storage.nbytes(), storage._cdata
        known.add(key)
        alive += size
        most = max(most, alive)
        weakref.finalize(storage, free, key, size)

    def free(key: int, size: int) -> None:
        nonlocal alive
        known.discard(key)
        alive -= size

    for each in weights:
        own.add(each.untyped_storage()._cdata)
        if each.requires_grad:
            each.register_post_accumulate_grad_hook(lambda one: setattr(one, "grad", None))
    with Counting():
        run().backward()
    return most


def as_trained(step: Step) -> AbstractContextManager[Any]:
    """The trainer's mixed precision, where the step has it."""
    import torch

    half = step.computed < activations.FULL_PRECISION
    return torch.autocast("cpu", torch.bfloat16) if half else nullcontext()


@pytest.mark.parametrize(
    ("kind", "config", "step"),
    [
        ("llama", LLAMA, LORA),
        ("llama", LLAMA, replace(LORA, recomputes=True)),
        ("llama", LLAMA, FULL),
        ("llama", LLAMA, replace(FULL, recomputes=True)),
        ("llama", LLAMA, replace(FULL, computed=4)),
        ("qwen3", DEEP, LORA),
        ("qwen3", DEEP, replace(LORA, recomputes=True)),
        ("bert", BERT, FULL),
        ("bert", BERT, replace(FULL, recomputes=True)),
    ],
)
def test_activations_are_never_more_than_estimated_and_not_much_less(
    kind: str, config: dict[str, Any], step: Step
) -> None:
    import torch

    model, shape = built(kind, config, step)
    mask = torch.ones(ROWS, LENGTH, dtype=torch.long)
    mask[1, LENGTH // 2 :] = 0  # padding, so that attention has a mask
    ids = torch.randint(5, 300, (ROWS, LENGTH))

    def run() -> Any:
        with as_trained(step):
            states = model(input_ids=ids, attention_mask=mask).last_hidden_state
        return states.float().square().mean()

    real = fullest(run, [*model.parameters(), *model.buffers()])
    said = activations.activation_bytes(shape, step)
    assert real <= said <= 1.3 * real, f"{said / real:.2f}"


@pytest.mark.parametrize("computed", [2, 4])
def test_logits_that_are_computed_all_at_once(computed: int) -> None:
    """As CPO and ORPO do: both answers' probabilities, and the chosen ones' loss."""
    import torch
    from trl.trainer.utils import selective_log_softmax

    step = Step(ROWS * LENGTH, LENGTH, recomputes=True, computed=computed)
    shape = Shape(64, 1, 1, 1, 1, 1, vocabulary=4000)
    head = torch.nn.Linear(shape.hidden, shape.vocabulary, bias=False)
    states = torch.randn(2 * ROWS, LENGTH // 2, shape.hidden, requires_grad=True)
    ids = torch.randint(0, shape.vocabulary, (2 * ROWS, LENGTH // 2))

    def run() -> Any:
        with as_trained(step):
            logits = head(states)
        logits = logits.float()
        own, wanted = logits[:ROWS, :-1].contiguous(), ids[:ROWS, 1:]
        loss = torch.nn.functional.cross_entropy(own.flatten(0, 1), wanted.flatten())
        return loss + selective_log_softmax(logits[:, :-1], ids[:, 1:]).mean()

    real = fullest(run, [*head.parameters(), states])
    said = activations.logit_bytes(shape, step, step.tokens)
    assert real <= said <= 1.3 * real, f"{said / real:.2f}"


def test_heads_and_recomputation_are_those_of_the_trainers() -> None:
    import trl
    from trl.kernels import chunked_logprob
    from trl.trainer import utils

    assert chunked_logprob.TOKEN_CHUNK_SIZE == activations.TILE_TOKENS
    assert utils._CHUNKED_LOGPROB_CHUNK_SIZE == activations.TILE_WIDTH
    for method in methods():
        name = method.replace("-", "_")
        config = importlib.import_module(f"sm_train.methods.{name}").METHOD.training_config
        assert (method in memory.OF_TRL) is config.startswith("trl")
        if method not in memory.OF_TRL:
            continue
        folder = f"experimental/{name}" if "experimental" in config else "trainer"
        code = (Path(trl.__file__).parent / folder / f"{name}_trainer.py").read_text()
        tiled = "add_fused_lm_head(" in code or "_chunked_divergence_loss(" in code
        assert (method in memory.TILED) is tiled
        assert (method in memory.ALL_LOGITS) is ("all_logits = outputs.logits" in code)


def test_types_with_norms_of_queries_and_keys_are_those_of_the_count() -> None:
    normed = {name for name, kind in model_size._LIKE_LLAMA.items() if kind.head_norms}
    assert normed == activations.HEAD_NORMED


def test_what_pairs_of_four_bits_need() -> None:
    """A 7B model, eight pairs of 1024 tokens: one GPU of 24 GiB, as QLoRA is known for."""
    pairs = {"method": "dpo", "use_peft": True, "load_in_4bit": True}
    needed = memory.memory(7e9, {**pairs, "per_device_train_batch_size": 8})
    assert 10 < needed.total_gib < 20
    kept = memory.memory(7e9, {**pairs, "activation_checkpointing": False})
    assert kept.total_gib > 5 * needed.total_gib


@pytest.mark.parametrize(
    ("parameters", "hidden", "layers", "inner", "heads"),
    [(6.7e9, 4096, 32, 11008, 32), (1.1e9, 2048, 22, 5632, 32), (13e9, 5120, 40, 13824, 40)],
)
def test_a_model_that_is_known_by_its_size_alone_is_taken_for_a_llama(
    parameters: float, hidden: int, layers: int, inner: int, heads: int
) -> None:
    own = Shape(hidden, layers, inner, hidden, hidden, heads, 32_000)
    for step in (LORA, replace(LORA, recomputes=True)):
        real = activations.activation_bytes(own, step)
        guessed = activations.activation_bytes(activations.typical(parameters), step)
        assert guessed == pytest.approx(real, rel=0.2)
