"""A continuous batch on a CPU computes each request by itself, and answers as `generate` does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import transformers  # noqa: E402
from transformers import ContinuousBatchingConfig, GenerationConfig  # noqa: E402

from sm_serve.engines.generators import attention_plan, paged_attention  # noqa: E402

pytestmark = pytest.mark.slow  # imports torch

SHAPE = {
    "vocab_size": 128,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "head_dim": 8,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.6,  # scores far enough from one another
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": None,
}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "shared heads": ("Llama", {}),
    "a head each": ("Llama", {"num_key_value_heads": 4}),
    "a window": ("Mistral", {"sliding_window": 8}),
    "windows in some layers": (
        "Qwen3",
        {
            "use_sliding_window": True,
            "sliding_window": 8,
            "layer_types": ["sliding_attention", "full_attention"],
        },
    ),
}
LENGTHS = (31, 1, 3, 8, 9, 70, 120)
"""Of prompts: the first is one step of the batch, others share one or take several."""
STEP_TOKENS = 32
NEW_TOKENS = 12


@pytest.fixture(params=MODELS, ids=str)
def model(request: pytest.FixtureRequest) -> Iterator[Any]:
    kind, more = MODELS[request.param]
    torch.manual_seed(4)
    config = getattr(transformers, f"{kind}Config")(**{**SHAPE, **more})
    made = getattr(transformers, f"{kind}ForCausalLM")(config).eval()
    assert made.config._attn_implementation == paged_attention.USUAL
    yield made
    paged_attention.attend_as_before(made)


def batch_answers(model: Any, prompts: list[list[int]]) -> list[list[int]]:
    """All prompts in one batch, begun and continued in steps of few tokens."""
    manager = model.init_continuous_batching(
        generation_config=GenerationConfig(do_sample=False, eos_token_id=-1, pad_token_id=0),
        continuous_batching_config=ContinuousBatchingConfig(
            page_size=16, num_blocks=64, max_batch_tokens=STEP_TOKENS,
            max_requests_per_batch=len(prompts), use_cuda_graph=False, use_async_batching=False,
        ),
    )  # fmt: skip
    paged_attention.attend_by_request(model)
    manager.warmup()
    hook = model.register_forward_pre_hook(paged_attention.before_pass, with_kwargs=True)
    manager.start()
    try:
        for number, prompt in enumerate(prompts):
            manager.add_request(prompt, request_id=str(number), max_new_tokens=NEW_TOKENS)
        answers = {}
        while len(answers) < len(prompts):
            output = manager.get_result(timeout=60)
            assert output is not None
            assert not output.error
            answers[int(output.request_id)] = output.generated_tokens
    finally:
        manager.stop(block=True)
        hook.remove()
    return [answers[number] for number in range(len(prompts))]


def own_answer(model: Any, prompt: list[int]) -> list[int]:
    ids = torch.tensor([prompt])
    config = GenerationConfig(do_sample=False, max_new_tokens=NEW_TOKENS, pad_token_id=0)
    with torch.inference_mode():
        made = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=config)
    return [int(token) for token in made[0, len(prompt) :]]


def test_a_batch_answers_as_each_request_by_itself(model: Any) -> None:
    chance = torch.Generator().manual_seed(6)
    prompts = [torch.randint(3, 128, (n,), generator=chance).tolist() for n in LENGTHS]
    wanted = [own_answer(model, prompt) for prompt in prompts]
    assert len({tuple(answer) for answer in wanted}) == len(wanted)
    assert batch_answers(model, prompts) == wanted
    # Outside the batch (a search, scores of a prompt) the model is as it was.
    assert [own_answer(model, prompt) for prompt in prompts] == wanted


@pytest.mark.parametrize("model", ["windows in some layers"], indirect=True)
def test_no_mask_is_made_for_the_batch(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.generation.continuous_batching import input_outputs

    monkeypatch.delattr(input_outputs, "build_attention_mask")
    assert batch_answers(model, [[5, 6, 7], [8]])


def test_what_it_does_not_know_is_refused() -> None:
    with pytest.raises(ValueError, match="has no softcap"):
        paged_attention.attend(None, None, None, None, None, cache=object(), softcap=50.0)


def test_single_tokens_are_taken_together_where_their_keys_are_about_as_many() -> None:
    assert attention_plan.alike([]) == []
    assert attention_plan.alike([50, 60, 50, 55]) == [[0, 1, 2, 3]]
    assert attention_plan.alike([20, 900, 30, 880]) == [[1, 3], [0, 2]]
    assert attention_plan.alike([1500, 1500, 400]) == [[0], [1], [2]]  # as many as fit a group


def test_a_plan_has_every_token_once_and_hides_what_fills_up() -> None:
    index = torch.arange(100, 100 + 3 + 2 + 40 + 7)
    plan = attention_plan.plan_step([1, 1, 6, 1], [3, 2, 40, 7], index, grouped=True)
    (piece,), (group,) = plan.pieces, plan.groups
    assert (piece.new, piece.known) == (slice(2, 8), slice(5, 45))
    assert piece.index.tolist() == list(range(105, 145))
    assert group.rows.tolist() == [0, 1, 8]
    keys = group.index.view(group.requests, -1)
    assert keys.tolist() == [
        [100, 101, 102, 100, 100, 100, 100],
        [103, 104, 103, 103, 103, 103, 103],
        list(range(145, 152)),
    ]
    assert (group.mask[:, 0, 0] == 0).sum(-1).tolist() == [3, 2, 7]
    (alone,) = attention_plan.plan_step([1, 1], [4, 4], torch.arange(8), grouped=True).groups
    assert alone.rows is None
    assert alone.mask is None
    assert not attention_plan.plan_step([1, 1], [4, 4], torch.arange(8), grouped=False).groups
