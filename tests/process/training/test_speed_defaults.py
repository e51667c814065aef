"""What makes training faster by default changes no result: batching, packing, number types."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytestmark = pytest.mark.slow

NewJob = Callable[..., Any]
ROUNDING = 1e-5  # relative, of float32
HALF_ROUNDING = 1e-2  # relative: bfloat16 has 8 bits, and errors of a step partly cancel
STEP = {
    "learning_rate": 0.1,
    "optim": "sgd",
    "lr_scheduler_type": "constant",
    "warmup_steps": 0,
    "report_to": "none",
    "logging_steps": 1,
    "bf16": False,
    "per_device_train_batch_size": 4,
}


def texts(count: int = 24) -> list[dict[str, str]]:
    """Rows of very different lengths."""
    chance = random.Random(7)
    tokens = [
        chance.choices([f"w{i}" for i in range(40)], k=chance.randint(1, 40)) for _ in range(count)
    ]
    return [{"text": " ".join(row)} for row in tokens]


def trained(session_job: NewJob, model: Path, rows: Any, **settings: Any) -> Any:
    job = session_job({**STEP, **settings}, train=rows, validation=rows, model=model)
    job.train_here()
    return job


def weights(job: Any) -> Any:
    from safetensors.torch import load_file

    return load_file(job.model / "model.safetensors")


def assert_same_weights(one: Any, other: Any, limit: float = ROUNDING) -> None:
    first, second = weights(one), weights(other)
    for name, value in first.items():
        distance = (value - second[name]).abs().max()
        assert distance <= limit * max(1.0, float(value.abs().max())), name


def test_rows_behind_one_another_give_the_steps_of_padded_rows(
    session_job: NewJob, decoder: Path
) -> None:
    """padding_free, the default with FlashAttention: as many rows a step, and the same ones."""
    given = {"method": "sft", "max_steps": 4, "train_sampling_strategy": "random"}
    padded = trained(session_job, decoder, texts(), **given, padding_free=False)
    flat = trained(session_job, decoder, texts(), **given, padding_free=True)
    assert padded.losses == pytest.approx(flat.losses, rel=ROUNDING)
    assert_same_weights(padded, flat)


def test_packing_on_request_gives_the_loss_of_rows_apart(
    session_job: NewJob, decoder: Path
) -> None:
    given = {"method": "sft", "max_steps": 1, "learning_rate": 1e-12, "max_length": 64}
    given["per_device_eval_batch_size"] = 32  # one batch: the trainer averages over batches
    losses = [
        trained(session_job, decoder, texts(), **given, packing=packed).results["eval_loss"]
        for packed in (False, True)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=ROUNDING)


@pytest.mark.parametrize("method", ["sft", "text-classification"])
def test_batches_of_like_length_learn_what_random_ones_do(
    method: str, session_job: NewJob, decoder: Path, encoders: dict[str, Path]
) -> None:
    """A step over all rows is the same in whichever batches they come."""
    rows: list[dict[str, Any]] = list(texts())
    if method != "sft":
        rows = [{**row, "label": "ab"[place % 2]} for place, row in enumerate(rows)]
    model = decoder if method == "sft" else encoders["bert"]
    given: dict[str, Any] = {"method": method, "max_steps": 1, "gradient_accumulation_steps": 6}
    if method != "sft":
        off = {"hidden_dropout_prob": 0, "attention_probs_dropout_prob": 0}
        given |= {"model_init_kwargs": off}
    jobs = [
        trained(session_job, model, rows, **given, train_sampling_strategy=strategy)
        for strategy in ("random", "group_by_length")
    ]
    assert jobs[0].losses == pytest.approx(jobs[1].losses, rel=ROUNDING)
    assert_same_weights(*jobs)


def test_bfloat16_stays_within_its_rounding(session_job: NewJob, decoder: Path) -> None:
    given = {"method": "sft", "max_steps": 6}
    exact = trained(session_job, decoder, texts(), **given)
    halved = trained(session_job, decoder, texts(), **{**given, "bf16": True})
    assert exact.losses == pytest.approx(halved.losses, rel=HALF_ROUNDING)
    assert exact.losses != halved.losses
    assert_same_weights(exact, halved, HALF_ROUNDING)


@pytest.mark.gpu
def test_liger_kernels_stay_within_rounding(session_job: NewJob, decoder: Path) -> None:
    pytest.importorskip("liger_kernel")
    given = {"method": "sft", "max_steps": 6}
    plain = trained(session_job, decoder, texts(), **given, use_liger_kernel=False)
    liger = trained(session_job, decoder, texts(), **given, use_liger_kernel=True)
    assert plain.losses == pytest.approx(liger.losses, rel=HALF_ROUNDING)


@pytest.mark.parametrize(
    ("attention", "given", "expected"),
    [
        ("sdpa", {}, (False, False, "group_by_length", 64)),
        ("eager", {}, (False, False, "group_by_length", 64)),
        ("flash_attention_2", {}, (False, True, "random", None)),
        ("kernels-community/flash-attn3", {}, (False, True, "random", None)),
        ("flash_attention_2", {"packing": True}, (True, False, "random", 64)),
        ("flash_attention_2", {"packing": False}, (False, False, "group_by_length", 64)),
        ("flash_attention_2", {"padding_free": False}, (False, False, "group_by_length", 64)),
        ("sdpa", {"packing": True}, (True, False, "random", 64)),
        ("sdpa", {"train_sampling_strategy": "random"}, (False, False, "random", 64)),
    ],
)
def test_rows_share_a_sequence_only_where_attention_is_fast_over_it(
    attention: str, given: dict[str, Any], expected: tuple[Any, ...], tmp_path: Path
) -> None:
    from trl import SFTConfig

    from sm_train.config import parse_config
    from sm_train.methods.sft import batching
    from sm_train.rows import Data

    job: Any = SimpleNamespace(
        is_main=True,
        config=parse_config({"method": "sft", **given}),
        data=Data([], None, None),
        has_images=False,
    )
    model = SimpleNamespace(config=SimpleNamespace(_attn_implementation=attention))
    arguments = SFTConfig(str(tmp_path), use_cpu=True, bf16=False, max_length=64, **given)
    made = batching(job, arguments, model)
    assert expected == (
        made.packing,
        made.padding_free,
        made.train_sampling_strategy,
        made.max_length,
    )
    assert made.per_device_train_batch_size == arguments.per_device_train_batch_size
