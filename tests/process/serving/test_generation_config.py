"""What generation_config.json says is obeyed as by `generate`, and no backend answers otherwise."""

import asyncio
import contextlib

import pytest
from serving_models import tokenizer as make_tokenizer

from sm_serve.config import Settings
from sm_serve.engines.generators.continuous import ContinuousGenerator
from sm_serve.engines.generators.plain import PlainGenerator
from sm_serve.engines.generators.sampling import NOT_NUMBERS, Choice, choose
from sm_serve.errors import EngineError
from sm_serve.protocol import GenerationRequest, Sampling
from sm_serve.schemas.generation import read_options
from sm_serve.schemas.openai import CHAT, parse_generation

pytestmark = pytest.mark.slow

PROMPTS = ["hello", "the movie was good", "bad bad plot", "i loved it " * 12]
OWN = {
    "eos_token_id": [2, 7, 30, 101],
    "repetition_penalty": 1.3,
    "no_repeat_ngram_size": 2,
    "bad_words_ids": [[110], [198, 269]],
    "suppress_tokens": [145, 330],
    "begin_suppress_tokens": [394, 176],
    "min_new_tokens": 12,
}
SAMPLING = {"do_sample": True, "temperature": 0.6, "top_p": 0.9, "top_k": 20, "num_beams": 2}


@pytest.fixture
def build():
    """Builds engines, and ends their threads."""
    with contextlib.ExitStack() as stack:

        def make(backend, model, tokenizer):
            engine = backend.build(model, tokenizer, Settings(kv_cache_tokens=2048))
            stack.callback(engine.close)
            return engine

        yield make


def load(path, kind="AutoModelForCausalLM", **own):
    import transformers

    model = getattr(transformers, kind).from_pretrained(path).float().eval()
    for name, value in own.items():
        setattr(model.generation_config, name, value)
    return model, transformers.AutoTokenizer.from_pretrained(path)


def expect(model, tokenizer, prompt):
    import torch

    ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        output = model.generate(ids, max_new_tokens=30, do_sample=False, num_beams=1)
    answer = output[0, 1:] if model.config.is_encoder_decoder else output[0, ids.shape[1] :]
    return tokenizer.decode(answer, skip_special_tokens=True)


def ask(engine, prompts, **parameters):
    """The answers of one moment."""
    options = read_options({"max_new_tokens": 30, **parameters}, engine.defaults)

    async def one(prompt):
        pieces = [p async for p in engine.generate(GenerationRequest(prompt, options.sampling))]
        return "".join(piece.text for piece in pieces)

    async def every():
        return await asyncio.gather(*map(one, prompts))

    return asyncio.run(every())


@pytest.mark.parametrize("backend", [ContinuousGenerator, PlainGenerator])
def test_both_backends_obey_it_as_generate_does(build, language_model_dir, backend):
    plain, _ = load(language_model_dir)
    model, tokenizer = load(language_model_dir, **OWN, **SAMPLING)
    expected = [expect(model, tokenizer, prompt) for prompt in PROMPTS]
    assert expected != [expect(plain, tokenizer, prompt) for prompt in PROMPTS]
    engine = build(backend, model, tokenizer)
    assert type(engine) is backend
    assert ask(engine, PROMPTS) == expected
    held = ask(engine, PROMPTS[:1], repetition_penalty=1.0)
    model.generation_config.repetition_penalty = 1.0
    assert held == [expect(model, tokenizer, PROMPTS[0])]
    drawn = read_options({"do_sample": True}, engine.defaults).sampling
    assert (drawn.temperature, drawn.top_p, drawn.top_k) == (0.6, 0.9, 20)
    body = {"messages": [{"role": "user", "content": "x"}], "top_p": 1}
    chat = parse_generation(CHAT, body, engine.defaults).requests[0].sampling
    assert (chat.temperature, chat.top_p, chat.top_k) == (0.6, 1.0, 20)
    assert chat.repetition_penalty == 1.3


def test_penalties_of_an_encoder_decoder_count_its_answer_alone(build, pool):
    def make(path):
        import torch
        from transformers import T5Config, T5ForConditionalGeneration

        torch.manual_seed(7)
        config = T5Config(
            vocab_size=400, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4,
            decoder_start_token_id=0, eos_token_id=2, pad_token_id=0, initializer_factor=3.0,
        )  # fmt: skip
        T5ForConditionalGeneration(config).save_pretrained(path)
        make_tokenizer(path, bert=False)
        return path

    path = pool.model("t5", make)
    model, tokenizer = load(path, "AutoModelForSeq2SeqLM", repetition_penalty=1.5, num_beams=4)
    expected = [expect(model, tokenizer, prompt) for prompt in PROMPTS]
    engine = build(PlainGenerator, model, tokenizer)
    assert ask(engine, PROMPTS) == expected


def test_a_model_that_paged_attention_does_not_fit_is_served_by_generate(build, pool, caplog):
    def make(path):
        import torch
        from transformers import StableLmConfig, StableLmForCausalLM

        torch.manual_seed(7)
        config = StableLmConfig(
            vocab_size=400, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256,
            bos_token_id=1, eos_token_id=2, pad_token_id=0, initializer_range=0.3,
        )  # fmt: skip
        StableLmForCausalLM(config).save_pretrained(path)
        make_tokenizer(path, bert=False)
        return path

    model, tokenizer = load(pool.model("stablelm", make))
    engine = build(ContinuousGenerator, model, tokenizer)
    assert isinstance(engine, PlainGenerator)
    assert "continuous batching is not for StableLmForCausalLM" in caplog.text
    assert ask(engine, PROMPTS) == [expect(model, tokenizer, prompt) for prompt in PROMPTS]


def test_a_backend_that_answers_otherwise_is_found_out(build, language_model_dir, monkeypatch):
    from sm_serve.engines.generators.continuous import trial

    right = trial.prepare

    def wrong(model, context):
        """As if the model's next tokens were others."""
        return [
            trial.Trial(one.prompt, [(token + 1) % 400 for token in one.answer], one.scores)
            for one in right(model, context)
        ]

    monkeypatch.setattr(trial, "prepare", wrong)
    engine = build(ContinuousGenerator, *load(language_model_dir))
    assert isinstance(engine, PlainGenerator)


def test_an_end_that_only_the_tokenizer_knows_ends_nothing_as_in_generate(
    build, language_model_dir
):
    model, tokenizer = load(language_model_dir, eos_token_id=None)
    model.config.eos_token_id = None
    expected = [expect(model, tokenizer, prompt) for prompt in PROMPTS]
    engine = build(ContinuousGenerator, model, tokenizer)
    assert ask(engine, PROMPTS) == expected
    held = ask(engine, PROMPTS[:1], grammar={"type": "regex", "value": "yes|no"})
    assert held[0] in ("yes", "no")


def test_scores_that_are_no_numbers_are_an_error_and_no_answer(build, language_model_dir):
    import torch

    model, tokenizer = load(language_model_dir)
    engine = build(ContinuousGenerator, model, tokenizer)
    assert isinstance(engine, ContinuousGenerator)
    sound = model.lm_head.weight[7].clone()
    with engine.paused(), torch.no_grad():
        model.lm_head.weight[7] = float("nan")
    for parameters in ({}, {"temperature": 1.0}, {"details": True}):
        with pytest.raises(EngineError, match="not numbers"):
            ask(engine, PROMPTS[:1], **parameters)
    with pytest.raises(EngineError, match="not numbers"):
        asyncio.run(engine.score([5, 6, 7], 1, None))
    with engine.paused(), torch.no_grad():
        model.lm_head.weight[7] = sound
    ask(engine, PROMPTS[:1])
    assert engine.health() is None


def test_rows_that_only_fill_a_batch_up_are_nobodys():
    import torch

    choices = [Choice(Sampling()), Choice(Sampling(temperature=1.0, seed=1))]
    scores = torch.randn(5, 9, generator=torch.Generator().manual_seed(1))
    scores[2:] = float("nan")
    chosen = choose(scores.clone(), choices)
    assert chosen[0].equal(scores[0])
    assert chosen[1].isinf().sum() == 1
    assert [choice.failure for choice in choices] == [None, None]
    scores[0, 3] = float("nan")
    choose(scores, choices)
    assert [choice.failure for choice in choices] == [NOT_NUMBERS, None]
