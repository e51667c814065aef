"""Summaries, translations and searches by beams equal `generate`, as pipelines call it."""

import asyncio
import contextlib
import functools
import json
from inspect import signature as signature_of

import pytest
from serving_models import tokenizer as make_tokenizer

from sm_serve.artefact.artefact import inspect
from sm_serve.config import Settings
from sm_serve.engines.generators.continuous import ContinuousGenerator
from sm_serve.engines.generators.plain import PlainGenerator
from sm_serve.engines.turns import OWNER
from sm_serve.errors import BadRequest, EngineError, StartupError
from sm_serve.handlers.engine import EngineHandler
from sm_serve.schemas import invocation as wire

pytestmark = pytest.mark.slow

TEXT = "the movie was good and the plot was great but the acting was poor"
BEAMS = {"num_beams": 3, "max_new_tokens": 12}
COMMON = {
    "vocab_size": 400, "d_model": 32, "encoder_layers": 1, "decoder_layers": 1,
    "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64, "max_position_embeddings": 128, "init_std": 0.5, "pad_token_id": 0,
    "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2, "forced_eos_token_id": 2,
}  # fmt: skip


def make_bart(path):
    import torch
    from transformers import BartConfig, BartForConditionalGeneration

    torch.manual_seed(3)
    specific = {"summarization": {"num_beams": 2, "max_length": 14, "prefix": "sum up: "}}
    model = BartForConditionalGeneration(BartConfig(**COMMON, task_specific_params=specific))
    model.generation_config.update(num_beams=4, length_penalty=2.0, max_length=20, min_length=5,
                                   no_repeat_ngram_size=3, early_stopping=True)  # fmt: skip
    model.save_pretrained(path)
    make_tokenizer(path, bert=False)
    return path


def make_t5(path):
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(7)
    specific = {"translation_en_to_fr": {"prefix": "translate English to French: "}}
    config = T5Config(
        vocab_size=400, d_model=32, d_kv=8, d_ff=64, num_layers=1, num_heads=4, n_positions=16,
        decoder_start_token_id=0, eos_token_id=2, pad_token_id=0, initializer_factor=3.0,
        task_specific_params=specific,
    )  # fmt: skip
    T5ForConditionalGeneration(config).save_pretrained(path)
    make_tokenizer(path, bert=False)
    return path


def make_mbart(path):
    import torch
    from transformers import MBartConfig, MBartForConditionalGeneration, MBartTokenizer

    entries = [
        *["<s>", "<pad>", "</s>", "<unk>"],
        "▁",
        *(f"▁{word}" for word in TEXT.split()),
        *"abcdef",
    ]
    vocabulary = [(word, -float(index)) for index, word in enumerate(dict.fromkeys(entries))]
    tokenizer = MBartTokenizer(vocab=vocabulary)
    torch.manual_seed(3)
    config = MBartConfig(**{**COMMON, "vocab_size": len(tokenizer), "pad_token_id": 1,
                            "bos_token_id": 0, "scale_embedding": True})  # fmt: skip
    MBartForConditionalGeneration(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


MAKERS = {"bart": make_bart, "t5": make_t5, "mbart": make_mbart}


@pytest.fixture(scope="module")
def serve(pool, language_model_dir):
    """Handlers of tiny models, each made once for a task."""
    made = {}
    with contextlib.ExitStack() as stack:

        def handler(name, task=None):
            if (name, task) not in made:
                path = language_model_dir if name == "llama" else pool.model(name, MAKERS[name])
                base = pool.root / f"base-{name}-{task}"
                base.mkdir()
                (base / "model").symlink_to(path)
                settings = Settings(base_dir=base, task=task, kv_cache_tokens=2048)
                kind = ContinuousGenerator if name == "llama" else PlainGenerator
                engine = kind.load(inspect(base / "model", settings), settings)
                assert isinstance(engine, kind)
                stack.callback(engine.close)
                made[name, task] = EngineHandler(engine, settings)
                asyncio.run(made[name, task].warm_up())
            return made[name, task]

        yield handler


def ask(handler, inputs=TEXT, **parameters):
    """What the pipeline would give."""
    call = wire.parse_call({"inputs": inputs, "parameters": parameters})
    return wire.lone(call, asyncio.run(handler.results(call)))


@functools.cache
def load_anew(path, pair):
    """A model that no engine has changed, and its tokenizer."""
    import transformers

    kind = "AutoModelForSeq2SeqLM" if pair else "AutoModelForCausalLM"
    model = getattr(transformers, kind).from_pretrained(path).float().eval()
    return model, transformers.AutoTokenizer.from_pretrained(path)


def expect(handler, text=TEXT, *, key="generated_text", prompt=None, **options):
    """The text that `generate` itself gives, by a model loaded anew."""
    import torch

    pair = handler.engine.model.config.is_encoder_decoder
    model, tokenizer = load_anew(handler.engine.settings.model_dir.resolve(), pair)
    ids = torch.tensor([prompt or tokenizer(text)["input_ids"]])
    with torch.inference_mode():
        rows = model.generate(ids, attention_mask=torch.ones_like(ids), **options)
    start = 0 if pair else ids.shape[1]
    return [{key: tokenizer.decode(row[start:], skip_special_tokens=True)} for row in rows]


SEARCHES = [
    {}, {"length_penalty": 0.2}, {"length_penalty": -2.0, "early_stopping": True},
    {"early_stopping": "never"}, {"no_repeat_ngram_size": 2}, {"repetition_penalty": 1.7},
    {"num_return_sequences": 3}, {"min_new_tokens": 11},
]  # fmt: skip


@pytest.mark.parametrize("name", ["llama", "bart", "t5"])
@pytest.mark.parametrize("more", SEARCHES, ids=json.dumps)
def test_a_search_equals_generate(serve, name, more):
    handler = serve(name)
    expected = expect(handler, **BEAMS, **more)
    assert ask(handler, **BEAMS, **more) == expected


@pytest.mark.parametrize("name", ["llama", "bart", "t5"])
@pytest.mark.parametrize(
    "parameters",
    [
        {"no_repeat_ngram_size": 1},
        {"max_length": 40, "min_length": 30},
        {"no_repeat_ngram_size": 0},
    ],
    ids=json.dumps,
)
def test_what_needs_no_search_equals_generate_too(serve, name, parameters):
    handler = serve(name)
    expected = expect(handler, **{"num_beams": 1, "max_length": 40, **parameters})
    assert ask(handler, **{"num_beams": 1, "max_length": 40, **parameters}) == expected


def test_a_checkpoints_own_search_is_the_default_of_the_pipelines_format(serve):
    handler = serve("bart")
    assert ask(handler) == expect(handler)
    assert ask(handler) != expect(handler, num_beams=1)
    listed = ask(handler, inputs=[TEXT, "good"])
    assert listed == [expect(handler)[0], expect(handler, "good")[0]]
    with pytest.raises(BadRequest, match=r"parameters\.details: it does not go with num_beams=4"):
        ask(handler, details=True)


def test_a_summary_is_called_so_and_has_the_tasks_own_parameters(serve):
    handler = serve("bart", "summarization")
    expected = expect(handler, f"sum up: {TEXT}", key="summary_text", num_beams=2, max_length=14)
    assert ask(handler) == expected
    assert ask(handler, inputs=[TEXT]) == expected
    shorter = expect(handler, f"sum up: {TEXT}", key="summary_text", num_beams=2, max_length=8)
    assert ask(handler, max_length=8) == shorter


def test_a_text_longer_than_the_model_reads_is_cut_where_that_is_asked_for(serve):
    handler = serve("bart")
    long = TEXT * 20
    ids = handler.engine.tokenizer(long, truncation=True, max_length=128)["input_ids"]
    assert ask(handler, long, truncation=True) == expect(handler, prompt=ids)
    with pytest.raises(BadRequest, match="context is 128"):
        ask(handler, long)
    with pytest.raises(BadRequest, match="cut by truncate"):
        ask(serve("llama"), long, truncation=True)


def test_t5_translates_by_its_prefix_and_reads_what_its_positions_allow(serve):
    handler = serve("t5", "translation_en_to_fr")
    text = "the movie was good " * 12
    expected = expect(
        handler, f"translate English to French: {text}", key="translation_text", max_new_tokens=9
    )
    assert ask(handler, text, max_new_tokens=9) == expected
    with pytest.raises(
        BadRequest, match="src_lang='en': this model's tokenizer knows no languages"
    ):
        ask(handler, src_lang="en")


@pytest.mark.parametrize("languages", [("en_XX", "ro_RO"), ("de_DE", "en_XX")])
@pytest.mark.parametrize("more", [{}, BEAMS], ids=["greedy", "beams"])
def test_mbart_translates_between_the_languages_that_are_asked_for(serve, languages, more):
    handler = serve("mbart", "translation")
    source, target = languages
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(handler.engine.settings.model_dir)
    built = tokenizer._build_translation_inputs(
        TEXT, return_tensors=None, src_lang=source, tgt_lang=target
    )
    expected = expect(
        handler, key="translation_text", prompt=built["input_ids"],
        forced_bos_token_id=built["forced_bos_token_id"], **{"max_new_tokens": 12, **more},
    )  # fmt: skip
    named = {"src_lang": source, "tgt_lang": target}
    assert ask(handler, **{"max_new_tokens": 12, **more}, **named) == expected


def test_a_translation_without_languages_names_those_that_the_model_knows(serve):
    handler = serve("mbart", "translation")
    with pytest.raises(BadRequest, match=r"src_lang is missing: this model knows ar_AR, .*zh_CN"):
        ask(handler)
    with pytest.raises(BadRequest, match=r"parameters\.tgt_lang='xx' is unknown: this model knows"):
        ask(handler, src_lang="en_XX", tgt_lang="xx")
    assert ask(serve("mbart", "translation_en_XX_to_ro_RO"), max_new_tokens=3)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"num_beams": 17}, "num_beams=17"),
        ({"length_penalty": 2.0}, "length_penalty=2.0 is for a search"),
        ({"early_stopping": True}, "early_stopping=True is for a search"),
        ({"num_beams": 2, "num_return_sequences": 3}, "num_return_sequences=3: num_beams=2"),
        ({"num_return_sequences": 3}, "set do_sample to true, or num_beams"),
        ({"num_beams": 2, "stop": ["a"]}, "stop: it does not go with num_beams=2"),
        ({"num_beams": 2, "seed": 3}, "seed: it does not go with"),
        ({"num_beams": 16, "max_new_tokens": 400}, "raise SM_SERVE_KV_CACHE_TOKENS"),
    ],
)
def test_what_a_search_has_not_is_refused_by_name(serve, parameters, message):
    with pytest.raises(BadRequest, match=message):
        ask(serve("llama"), **parameters)


def test_a_search_is_not_streamed(serve):
    for name, parameters in (("llama", BEAMS), ("bart", BEAMS)):
        call = wire.parse_call({"inputs": TEXT, "parameters": parameters, "stream": True})
        with pytest.raises(BadRequest, match="stream: with num_beams=3 the answer is known at its"):
            asyncio.run(serve(name).stream(call, None))
    plain = wire.parse_call({"inputs": TEXT, "stream": True})  # its own beams are no stream's

    async def streamed():
        answer = await serve("bart").stream(plain, None)
        return b"".join([piece async for piece in answer.body])

    last = asyncio.run(streamed()).decode().rstrip().split("\n\n")[-1]
    expected = expect(serve("bart"), num_beams=1, length_penalty=1.0, early_stopping=False)
    assert json.loads(last.removeprefix("data:"))["generated_text"] == expected[0]["generated_text"]


@pytest.fixture
def batches(serve, monkeypatch):
    """Sizes of the batches that a handler's `generate` gets."""
    sizes = []

    def watch(handler):
        model = handler.engine.model
        generate = model.generate

        def counted(ids, **options):
            sizes.append(len(ids))
            return generate(ids, **options)

        monkeypatch.setattr(model, "generate", counted)
        return sizes

    return watch


MIXED = [TEXT, "good", "the movie was", "good plot", "acting " * 30, "bad", "i loved the movie"]


@pytest.mark.parametrize("name", ["bart", "t5", "mbart"])
def test_requests_of_an_encoder_decoder_share_batches_and_answer_as_if_alone(serve, batches, name):
    handler, wanted = serve(name), {"num_beams": 1, "max_new_tokens": 16}
    expected = [expect(handler, text, **wanted)[0] for text in MIXED]
    drawn = {**wanted, "temperature": 1.0, "seed": 5}
    alone = [ask(handler, text, **drawn)[0] for text in MIXED]
    sizes = batches(handler)

    async def together():
        calls = [
            wire.parse_call({"inputs": text, "parameters": parameters})
            for text in MIXED
            for parameters in (wanted, drawn, {**wanted, "max_new_tokens": 4})
        ]
        return [results[0] for results in await asyncio.gather(*map(handler.results, calls))]

    results = asyncio.run(together())
    assert results[::3] == expected
    assert results[1::3] == alone
    assert sum(sizes) == len(results) and len(sizes) <= 6


async def gather(handler, texts, **parameters):
    """Answers of texts that are asked together, or their errors."""
    calls = [wire.parse_call({"inputs": text, "parameters": parameters}) for text in texts]
    results = await asyncio.gather(*map(handler.results, calls), return_exceptions=True)
    return [each if isinstance(each, Exception) else each[0] for each in results]


@pytest.mark.parametrize("name", ["bart", "t5"])
def test_a_poisonous_prompt_fails_itself_alone(serve, batches, monkeypatch, name):
    handler, wanted = serve(name), {"num_beams": 1, "max_new_tokens": 16}
    expected = [expect(handler, text, **wanted)[0] for text in MIXED]
    sizes, encoder = batches(handler), handler.engine.model.get_encoder()
    poison = handler.engine.tokenizer("watch")["input_ids"]
    forward = encoder.forward

    def poisoned(input_ids, **named):
        for row in input_ids.tolist():
            if row[: len(poison)] == poison:
                raise RuntimeError("of one row")
        return forward(input_ids, **named)

    poisoned.__signature__ = signature_of(forward)
    monkeypatch.setattr(encoder, "forward", poisoned)
    results = asyncio.run(gather(handler, [*MIXED[:3], "watch", *MIXED[3:]], **wanted))
    failed = results.pop(3)
    assert results == expected
    assert isinstance(failed, EngineError) and "RuntimeError" in str(failed)
    assert max(sizes) > 1
    assert handler.health() is None


@pytest.mark.parametrize("name", ["llama", "bart"])
def test_a_token_that_the_model_lacks_is_refused(serve, monkeypatch, name):
    handler, wanted = serve(name), {"num_beams": 1, "max_new_tokens": 8}
    encode, beyond = handler.engine.encode_text, handler.engine.vocabulary

    def encode_text(text, request):
        """As where a tokenizer has grown and its model has not."""
        return [*encode(text, request), *[beyond] * ("grown" in text)]

    expected = [ask(handler, text, **wanted)[0] for text in MIXED[:2]]
    monkeypatch.setattr(handler.engine, "encode_text", encode_text)
    *results, refused = asyncio.run(gather(handler, [*MIXED[:2], "grown"], **wanted))
    assert results == expected
    assert isinstance(refused, BadRequest) and f"as token {beyond}" in str(refused)


@pytest.mark.parametrize("name", ["bart", "t5", "mbart"])
def test_a_batch_that_fails_amid_its_answers_goes_on_by_halves(serve, batches, monkeypatch, name):
    import torch

    handler, wanted = serve(name), {"num_beams": 1, "max_new_tokens": 16, "min_new_tokens": 9}
    drawn = {"temperature": 1.0, "seed": 5}
    kinds = [{}, drawn, {"repetition_penalty": 1.7}, {**drawn, "frequency_penalty": 2.0}]
    alone = [ask(handler, text, **wanted, **kind)[0] for kind in kinds for text in MIXED]
    sizes, model, steps = batches(handler), handler.engine.model, []
    forward = model.forward

    def short_of_memory(*given, decoder_input_ids, **named):
        steps.append(len(decoder_input_ids))
        if len(decoder_input_ids) > 2 and len(steps) % 4 == 0:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(*given, decoder_input_ids=decoder_input_ids, **named)

    short_of_memory.__signature__ = signature_of(forward)  # `generate` reads names from it
    monkeypatch.setattr(model, "forward", short_of_memory)

    async def together():
        asked = (gather(handler, MIXED, **wanted, **kind) for kind in kinds)
        return [answer for results in await asyncio.gather(*asked) for answer in results]

    assert asyncio.run(together()) == alone
    assert max(sizes) > 4 and min(sizes) < 3


def test_a_request_whose_tokens_cannot_be_chosen_fails_alone(serve, monkeypatch):
    from sm_serve.engines.generators.sampling import Choice

    process = Choice.process

    def one_fails(choice, scores):
        if choice.sampling.seed == 13 and choice.count == 3:
            raise ValueError("of this row")
        return process(choice, scores)

    for name in ("llama", "t5"):
        handler, drawn = serve(name), {"num_beams": 1, "max_new_tokens": 8, "temperature": 1.0}
        expected = [ask(handler, text, **drawn, seed=5)[0] for text in MIXED[:3]]
        monkeypatch.setattr(Choice, "process", one_fails)

        async def together(handler=handler, drawn=drawn):
            return await asyncio.gather(
                gather(handler, MIXED[:3], **drawn, seed=5),
                gather(handler, ["good"], **drawn, seed=13),
            )

        results, (failed,) = asyncio.run(together())
        assert results == expected
        assert isinstance(failed, EngineError) and "ValueError" in str(failed)
        assert handler.health() is None
        monkeypatch.setattr(Choice, "process", process)


def test_a_lone_request_waits_for_a_batch_of_a_list_at_most(serve, batches):
    handler = serve("t5")
    sizes, wanted = batches(handler), {"num_beams": 1, "max_new_tokens": 30}
    call = wire.parse_call({"inputs": [f"good {n}" for n in range(200)], "parameters": wanted})
    lone = wire.parse_call({"inputs": TEXT, "parameters": {**wanted, "max_new_tokens": 9}})

    async def run():
        OWNER.set(1)
        listed = asyncio.create_task(handler.results(call))
        while len(sizes) < 2:
            await asyncio.sleep(0.001)
        OWNER.set(2)
        began = len(sizes)
        await handler.results(lone)
        waited = len(sizes) - began
        listed.cancel()
        return waited

    assert asyncio.run(run()) <= 3  # the next one may have begun when its answer is read


def test_other_requests_go_on_while_a_search_runs_and_all_are_right(serve):
    handler = serve("llama")
    texts = ["hello", "the movie was", "good plot", "i loved it"]
    long = {"num_beams": 4, "max_new_tokens": 60}
    expected = [expect(handler, text, max_new_tokens=20, do_sample=False) for text in texts]
    searched = expect(handler, **long)

    async def run():
        def one(text, parameters):
            call = wire.parse_call({"inputs": text, "parameters": parameters})
            return asyncio.create_task(handler.results(call))

        search = one(TEXT, long)
        await asyncio.sleep(0.05)
        answers = [one(text, {"max_new_tokens": 20}) for text in texts]
        results = [await answer for answer in answers]
        early = not search.done()
        gone = one(TEXT, {**long, "max_new_tokens": 100})
        await asyncio.sleep(0.05)
        gone.cancel()
        return results, early, await search

    results, early, result = asyncio.run(run())
    assert results == expected
    assert early
    assert result == searched
    assert handler.health() is None


def test_a_search_over_what_is_no_number_is_an_error(serve, monkeypatch):
    import torch

    handler = serve("t5")
    weight = handler.engine.model.lm_head.weight
    kept = weight.detach().clone()
    with torch.no_grad():
        weight[7] = float("nan")
    try:
        with pytest.raises(EngineError, match="not numbers"):
            ask(handler, **BEAMS)
    finally:
        with torch.no_grad():
            weight.copy_(kept)
    assert ask(handler, **BEAMS) == expect(handler, **BEAMS)


def test_a_decoder_is_no_summarizer(language_model_dir):
    for task in ("summarization", "translation_en_to_fr"):
        with pytest.raises(StartupError, match="is for encoder-decoders"):
            inspect(language_model_dir, Settings(task=task))
