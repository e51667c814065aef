"""Class weights: torch's weighted loss of the whole step, however its rows are shared out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sm_train.errors import UserError
from sm_train.loop.class_weights import ClassWeights, weights_of

pytestmark = pytest.mark.slow

STILL = {
    "max_steps": 4,
    "logging_steps": 1,
    "model_init_kwargs": {"hidden_dropout_prob": 0, "attention_probs_dropout_prob": 0},
    "train_sampling_strategy": "sequential",
    "report_to": "none",
    "learning_rate": 0.01,
    "num_processes": 1,
    "bf16": False,  # it rounds the sums of other batches in another way
}
WEIGHTS = st.lists(st.floats(0.1, 10), min_size=3, max_size=3)


def losses(job: Any) -> list[float]:
    return [job.losses[step] for step in sorted(job.losses)]


@settings(deadline=None)
@given(WEIGHTS, st.lists(st.sampled_from([0, 1, 2, -100]), min_size=2, max_size=12), st.data())
def test_parts_of_a_step_add_up_to_torch_s_loss(
    weights: list[float], ids: list[int], data: st.DataObject
) -> None:
    logits = torch.randn(len(ids), 3, generator=torch.Generator().manual_seed(len(ids)))
    labels = torch.tensor([0, *ids[1:]])  # one that counts
    made = ClassWeights(weights)
    total = made.total(labels)
    at = data.draw(st.integers(1, len(ids) - 1))
    parts = ((logits[:at], labels[:at]), (logits[at:], labels[at:]))
    loss = sum(made.loss({"logits": part}, own, total) for part, own in parts)
    expected = torch.nn.CrossEntropyLoss(torch.tensor(weights))(logits, labels)
    assert float(loss) == pytest.approx(float(expected), rel=1e-4)
    token_loss = made.loss({"logits": logits[None]}, labels[None])
    assert float(token_loss) == pytest.approx(float(expected), rel=1e-4)


@settings(deadline=None)
@given(WEIGHTS)
def test_several_labels_weigh_having_one(weights: list[float]) -> None:
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(1))
    targets = (torch.arange(15).reshape(5, 3) % 2).float()
    made = ClassWeights(weights, several=True)
    loss = sum(
        made.loss({"logits": logits[rows]}, targets[rows], made.total(targets))
        for rows in (slice(0, 2), slice(2, 5))
    )
    expected = torch.nn.BCEWithLogitsLoss(pos_weight=torch.tensor(weights))(logits, targets)
    assert float(loss) == pytest.approx(float(expected), rel=1e-4)


@settings(deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=40))
def test_balanced_is_scikit_learn_s(ids: list[int]) -> None:
    import numpy as np
    from sklearn.utils.class_weight import compute_class_weight

    present = np.unique(ids)
    expected = dict(
        zip(present, compute_class_weight("balanced", classes=present, y=ids), strict=True)
    )
    weights = weights_of("balanced", list("abcde"), ids, several=False)
    assert weights == pytest.approx([expected.get(at, 1.0) for at in range(5)])
    lists = weights_of("balanced", list("abcde"), [[-100, *ids], [-100]], several=False)
    assert lists == pytest.approx(weights)


def rare(count: int) -> list[dict[str, Any]]:
    """One row in eight is of the rare class, and rows lie in the order that a batch takes them."""
    return [
        {
            "text": f"{'great' if n % 8 else 'awful'} w{n % 7}",
            "label": "often" if n % 8 else "seldom",
        }
        for n in range(count)
    ]


def test_batches_and_processes_change_nothing(
    session_job: Callable[..., Any], encoders: dict[str, Path]
) -> None:
    def run(**how: Any) -> Any:
        asked = {"method": "text-classification", "class_weights": "balanced", **STILL, **how}
        return session_job(asked, train=rare(64), model=encoders["bert"])

    whole = run(per_device_train_batch_size=16)
    whole.train_here()
    parts = run(per_device_train_batch_size=2, gradient_accumulation_steps=8)
    parts.train_here()
    both = run(per_device_train_batch_size=2, gradient_accumulation_steps=4, num_processes=2)
    code, output = both.train()
    assert code == 0, output
    assert output.count("class weights in the training loss: often 0.5714, seldom 4") == 1
    plain = run(per_device_train_batch_size=16, class_weights=None)
    plain.train_here()
    assert losses(parts) == pytest.approx(losses(whole), rel=1e-3)
    assert losses(both) == pytest.approx(losses(whole), rel=1e-3)
    assert losses(plain) != pytest.approx(losses(whole), rel=1e-2)


def test_tags_are_weighed_over_all_words_of_a_step(
    session_job: Callable[..., Any], encoders: dict[str, Path]
) -> None:
    def row(others: int, names: int) -> dict[str, Any]:
        return {
            "tokens": ["w1"] * others + ["great"] * names,
            "tags": ["O"] * others + ["B"] * names,
        }

    rows = [row(1 + n % 5, n % 2) for n in range(32)]

    def run(batch: int, accumulation: int) -> list[float]:
        asked = {
            **STILL,
            "method": "token-classification",
            "class_weights": {"B": 7},
            "per_device_train_batch_size": batch,
            "gradient_accumulation_steps": accumulation,
        }
        job = session_job(asked, train=rows, model=encoders["bert"])
        job.train_here()
        return losses(job)

    assert run(2, 4) == pytest.approx(run(8, 1), rel=1e-3)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"class_weights": "balanced", "problem_type": "regression"}, "regression has none"),
        ({"class_weights": "ballanced"}, "neither balanced nor a mapping"),
        ({"class_weights": {"often": 0}}, "a number above 0"),
        ({"class_weights": {"sometimes": 2}}, "no class: sometimes"),
        ({"class_weights": "balanced", "label_smoothing_factor": 0.1}, "a loss of its own"),
    ],
)
def test_weights_that_nothing_would_look_at_are_refused(
    asked: dict[str, Any], message: str, new_job: Callable[..., Any], encoders: dict[str, Path]
) -> None:
    rows = rare(16)
    if "problem_type" in asked:
        rows = [{**row, "label": 0.5} for row in rows]
    job = new_job({"method": "text-classification", **asked}, train=rows, model=encoders["bert"])
    with pytest.raises(UserError, match=message) as refused:
        job.train_here()
    assert refused.value.field == "class_weights", json.dumps(asked)
