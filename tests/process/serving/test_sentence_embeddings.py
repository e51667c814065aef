"""Embeddings of sentence-transformers directories equal those of the library itself."""

import asyncio
import json

import pytest
from serving_adapters import make_base
from serving_models import tokenizer

from sm_serve.artefact.artefact import inspect
from sm_serve.config import Settings
from sm_serve.engines.registry import load_engine
from sm_serve.errors import BadRequest, StartupError

pytestmark = pytest.mark.slow

TEXTS = ["The Movie was good", "bad", "we loved it " * 20, "東京 naïve 🎬"]


def ours(path, **parameters):
    settings = Settings()
    engine = load_engine(inspect(path, settings), settings)
    try:
        return asyncio.run(engine.predict(TEXTS, parameters))
    finally:
        engine.close()


def build(path, modes, *more, **options):
    """A directory as the library saves it, and the library's model."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import modules

    base = make_base(path / "base", "bert", "AutoModel")
    layers = [modules.Transformer(str(base)), modules.Pooling(32, pooling_mode=modes), *more]
    model = SentenceTransformer(modules=layers, **options)
    model.max_seq_length = 24
    model.save_pretrained(str(path / "model"))
    return model


def near(vectors):
    return [pytest.approx(vector, abs=1e-5) for vector in vectors.tolist()]


@pytest.mark.parametrize(
    "modes", ["cls", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken", ("cls", "mean")]
)
def test_every_pooling(tmp_path, modes):
    model = build(tmp_path, modes)
    expected = near(model.encode(TEXTS))
    assert ours(tmp_path / "model") == expected
    config = tmp_path / "model" / "1_Pooling" / "config.json"
    flags = {"cls": "cls_token", "max": "max_tokens", "mean": "mean_tokens",
             "mean_sqrt_len_tokens": "mean_sqrt_len_tokens", "lasttoken": "lasttoken",
             "weightedmean": "weightedmean_tokens"}  # fmt: skip
    named = [modes] if isinstance(modes, str) else modes
    old = {f"pooling_mode_{flags[mode]}": mode in named for mode in flags}
    config.write_text(json.dumps(old))
    assert ours(tmp_path / "model") == expected


def test_layers_prompts_and_lengths(tmp_path):
    from sentence_transformers.sentence_transformer import modules

    prompts = {"query": "the movie ", "passage": "we "}
    more = (modules.Dense(64, 16), modules.Dense(16, 8, bias=False), modules.Normalize())
    model = build(tmp_path, ("mean", "cls"), *more, prompts=prompts, default_prompt_name="query")
    path = tmp_path / "model"
    assert ours(path) == near(model.encode(TEXTS))
    assert ours(path, prompt_name="passage") == near(model.encode(TEXTS, prompt_name="passage"))
    with pytest.raises(BadRequest, match="'nothing': the model's prompts are"):
        ours(path, prompt_name="nothing")
    # Versions before 6.0 kept the length, and whether to lower, in a file of their own.
    tokenizer = json.loads((path / "tokenizer_config.json").read_text())
    tokenizer["model_max_length"] = 128
    (path / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    assert ours(path) != near(model.encode(TEXTS))
    (path / "sentence_bert_config.json").write_text(
        json.dumps({"max_seq_length": 24, "do_lower_case": True})
    )
    assert ours(path) == near(
        model.encode([f"the movie {text}".lower() for text in TEXTS], prompt="")
    )


def test_the_encoder_of_a_t5(tmp_path):
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import modules
    from transformers import T5Config, T5EncoderModel

    torch.manual_seed(1)
    config = T5Config(vocab_size=400, d_model=32, d_kv=16, d_ff=64, num_layers=2, num_heads=2)
    T5EncoderModel(config).save_pretrained(tmp_path / "base")
    tokenizer(tmp_path / "base", bert=False)
    (tmp_path / "base" / "chat_template.jinja").unlink()  # the library would write messages
    model = SentenceTransformer(
        modules=[modules.Transformer(str(tmp_path / "base")), modules.Pooling(32)]
    )
    model.save_pretrained(str(tmp_path / "model"))
    assert ours(tmp_path / "model") == near(model.encode(TEXTS))


def test_modules_that_are_not_served_are_named(tmp_path):
    from sentence_transformers.sentence_transformer import modules

    build(tmp_path, "mean", modules.LayerNorm(32))
    with pytest.raises(StartupError, match="a LayerNorm at this place is not served"):
        ours(tmp_path / "model")
    file = tmp_path / "model" / "modules.json"
    listed = json.loads(file.read_text())[:2]
    listed.append({"idx": 2, "name": "2", "path": "2_Dense", "type": "x.Dense"})
    file.write_text(json.dumps(listed))
    (tmp_path / "model" / "2_Dense").mkdir()
    for config, message in (
        ({"use_residual": True}, "without residual"),
        ({"activation_function": "os.system"}, "Tanh"),
        ({}, "missing or damaged"),
    ):
        (tmp_path / "model" / "2_Dense" / "config.json").write_text(json.dumps(config))
        with pytest.raises(StartupError, match=message):
            ours(tmp_path / "model")
    file.write_text('[{"type": "Transformer"}]')
    with pytest.raises(StartupError, match="no list of"):
        ours(tmp_path / "model")
