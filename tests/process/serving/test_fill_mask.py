"""Masks are filled as by Hugging Face's pipeline."""

import asyncio
import json

import pytest
from serving_models import tokenizer as make_tokenizer
from test_stock_bodies import same

from sm_serve.artefact.artefact import inspect
from sm_serve.config import Settings
from sm_serve.engines.encoders.mask_filling import MaskFillingEngine
from sm_serve.errors import BadRequest, StartupError
from sm_serve.handlers.engine import EngineHandler
from sm_serve.schemas import invocation as wire

pytestmark = pytest.mark.slow

KINDS = {"Bert": "[MASK]", "Roberta": "<mask>", "DistilBert": "[blank]"}


def make(path, kind, head="ForMaskedLM"):
    import torch
    import transformers

    torch.manual_seed(7)
    tokenizer = make_tokenizer(path, bert=kind == "Bert")
    if kind != "Bert":
        tokenizer.model_max_length = 100
    tokenizer.add_special_tokens({"mask_token": KINDS[kind]})
    tokenizer.save_pretrained(path)
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=401, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=128, pad_token_id=0, initializer_range=0.5,
        dim=32, hidden_dim=64, n_layers=2, n_heads=2,
    )  # fmt: skip
    getattr(transformers, kind + head)(config).save_pretrained(path)
    return path


@pytest.fixture(scope="module", params=KINDS)
def filling(request, pool):
    """A handler, the pipeline of the same model, and its mask."""
    from transformers import pipeline

    kind = request.param
    path = pool.model(f"masked-{kind}", lambda path: make(path, kind))
    base = pool.root / f"masked-base-{kind}"
    base.mkdir()
    (base / "model").symlink_to(path)
    settings = Settings(base_dir=base, max_items=40)
    engine = MaskFillingEngine.load(inspect(base / "model", settings), settings)
    handler = EngineHandler(engine, settings)
    asyncio.run(handler.warm_up())
    yield handler, pipeline("fill-mask", str(path)), KINDS[kind]
    engine.close()


def ask(handler, inputs, **parameters):
    call = wire.parse_call({"inputs": inputs, "parameters": parameters})
    return json.loads(wire.dump(wire.lone(call, asyncio.run(handler.results(call)))))


@pytest.mark.parametrize(
    "parameters",
    [{}, {"top_k": 2}, {"targets": ["good", "bad", " not"]}, {"targets": "good", "top_k": 3},
     {"targets": ["a word that is none", "was"], "top_k": 1}],
    ids=json.dumps,
)  # fmt: skip
def test_answers_equal_the_pipelines(filling, parameters):
    handler, pipe, mask = filling
    one, two = f"the movie was {mask} and good", f"the {mask} movie was {mask}"
    for inputs in (one, [one], two, [two], [one, "hello " + mask, two]):
        assert same(ask(handler, inputs, **parameters), pipe(inputs, **parameters))


def test_a_long_text_is_cut_where_that_is_asked_for(filling):
    handler, pipe, mask = filling
    long = f"{mask} " + "the movie was good " * 60
    cut = {"tokenizer_kwargs": {"truncation": True}}
    assert same(ask(handler, long, **cut), pipe(long, **cut))
    assert ask(handler, long, truncation=True) == ask(handler, long, **cut)
    with pytest.raises(BadRequest, match="shorten it or leave parameters"):
        ask(handler, long)


def test_what_cannot_be_filled_is_refused(filling):
    handler, _, mask = filling
    with pytest.raises(BadRequest, match=r"inputs\[1\]: no mask_token") as refusal:
        ask(handler, [mask, "no blank"])
    assert mask in refusal.value.message
    for parameters, message in (
        ({"top_k": 0}, "top_k=0"),
        ({"top_k": 402}, "top_k=402: the model knows 401"),
        ({"top_k": 201}, "201 answers .* are over 200"),
        ({"targets": [""]}, "targets="),
        ({"tokenizer_kwargs": {"padded": 1}}, r"parameters\.tokenizer_kwargs\.padded is unknown"),
    ):
        with pytest.raises(BadRequest, match=message):
            ask(handler, mask, **parameters)
    with pytest.raises(BadRequest, match="is a dict: give a text"):
        ask(handler, {"text": mask})


def test_nothing_random_answers(pool, tmp_path):
    for name, head in (("none", "Model"), ("other", "ForSequenceClassification")):
        path = make(tmp_path / name, "Bert", head)
        settings = Settings(task="fill-mask")
        with pytest.raises(StartupError, match="which fill-mask needs"):
            MaskFillingEngine.load(inspect(path, settings), settings)
    make_tokenizer(path, bert=True)
    path = make(tmp_path / "blind", "Bert")
    make_tokenizer(path, bert=True)
    with pytest.raises(StartupError, match="does not define a mask_token"):
        MaskFillingEngine.load(inspect(path, Settings()), Settings())
