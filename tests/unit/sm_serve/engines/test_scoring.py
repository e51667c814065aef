"""Scoring of prompts piece by piece, in batches, with failures."""

import asyncio
import contextlib
import sys
from pathlib import Path

import pytest

from sm_serve.errors import EngineError, NotReady

sys.path.insert(0, str(Path(__file__).parents[3] / "process" / "serving"))

pytestmark = pytest.mark.slow

PROMPTS = [[5, 6, 7], [8] * 9, list(range(20, 70)), list(range(30, 85)), [4], [9, 8, 7, 6]]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    import serving_models
    from transformers import AutoModelForCausalLM

    path = serving_models.language_model(tmp_path_factory.mktemp("model"))
    return AutoModelForCausalLM.from_pretrained(path).float().eval()


def score(model, paused=contextlib.nullcontext):
    from sm_serve.engines.adapters.lora import LoraAdapters
    from sm_serve.engines.generators.scoring import Scorer

    scorer = Scorer(model, LoraAdapters(model, 1), paused)

    async def run():
        jobs = [scorer.score(prompt, 2, None) for prompt in PROMPTS]
        return await asyncio.gather(*jobs, return_exceptions=True)

    return asyncio.run(run())


@pytest.mark.parametrize("piece", [1, 7, 16, 512])
def test_pieces_of_any_length_give_the_same_numbers(model, monkeypatch, piece):
    import torch

    monkeypatch.setattr("sm_serve.engines.generators.scoring.PIECE_TOKENS", piece)
    for prompt, scored in zip(PROMPTS, score(model), strict=True):
        with torch.inference_mode():
            rows = model(torch.tensor([prompt])).logits[0].log_softmax(-1)
        assert [entry.token for entry in scored] == prompt
        wanted = [float(rows[i, token]) for i, token in enumerate(prompt[1:])]
        assert scored[0].logprob is None
        assert [entry.logprob for entry in scored[1:]] == pytest.approx(wanted, abs=1e-4)
        for row, entry in zip(rows, scored[1:], strict=False):
            assert [other.token for other in entry.top] == row.topk(2).indices.tolist()


def test_a_batch_that_fails_is_halved_and_a_lone_failure_is_told(model):
    def fail_for_long(_, arguments, options):
        if options["input_ids"].shape[0] > 1 or options["input_ids"].shape[1] == 9:
            raise MemoryError("too much")

    hook = model.register_forward_pre_hook(fail_for_long, with_kwargs=True)
    try:
        scored = score(model)
    finally:
        hook.remove()
    assert [isinstance(answer, EngineError) for answer in scored] == [len(p) == 9 for p in PROMPTS]
    assert "MemoryError" in scored[1].message


def test_a_stopped_loop_is_not_ready(model):
    @contextlib.contextmanager
    def stopped():
        raise RuntimeError("no loop")
        yield

    assert all(isinstance(answer, NotReady) for answer in score(model, stopped))
