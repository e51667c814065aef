"""Tokenizers that come as SentencePiece's or tiktoken's own file, in training and in serving."""

from __future__ import annotations

import base64
import importlib.util
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from training_jobs import lay_out

pytestmark = pytest.mark.slow

SENTENCES = [f"row {i} is {word}, and {other}" for i in range(60)
             for word, other in (("good", "we loved it"), ("bad", "nobody came"))]  # fmt: skip
SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
         "intermediate_size": 16, "vocab_size": 320}  # fmt: skip


def beside(folder: str, name: str) -> ModuleType:
    """A module of helpers of another test folder; those are no packages."""
    path = Path(__file__).parent / folder / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"{folder}_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pieces(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """SentencePiece's own model file, of the kind that is asked for."""
    import sentencepiece

    folder = tmp_path_factory.mktemp("pieces")
    text = folder / "text.txt"
    text.write_text("\n".join(SENTENCES))

    def make(kind: str) -> Path:
        path = folder / f"{kind}.model"
        if not path.exists():
            sentencepiece.SentencePieceTrainer.train(
                input=str(text), model_prefix=str(folder / kind), model_type=kind, vocab_size=310,
                hard_vocab_limit=False, byte_fallback=kind == "bpe", minloglevel=2,
                pad_id=0, bos_id=1, eos_id=2, unk_id=3,
                **({} if kind == "bpe" else {"pad_piece": "[PAD]", "bos_piece": "[CLS]",
                                             "eos_piece": "[SEP]", "unk_piece": "[UNK]"}),
            )  # fmt: skip
        return path

    return make


def saved(folder: Path, config: Any, tokenizer_class: str) -> Path:
    import torch
    from transformers import AutoModel, AutoModelForCausalLM

    torch.manual_seed(3)
    auto = AutoModelForCausalLM if config.model_type == "llama" else AutoModel
    auto.from_config(config).save_pretrained(folder)
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": tokenizer_class}))
    return folder


@pytest.fixture
def deberta(tmp_path: Path, pieces: Callable[[str], Path]) -> Path:
    from transformers import DebertaV2Config

    config = DebertaV2Config(**SMALL, relative_attention=True, position_buckets=16,
                             pos_att_type=["p2c", "c2p"], type_vocab_size=0,
                             max_position_embeddings=64)  # fmt: skip
    folder = saved(tmp_path / "deberta", config, "DebertaV2Tokenizer")
    shutil.copy(pieces("unigram"), folder / "spm.model")
    return folder


def llama(folder: Path, name: str, source: Path) -> Path:
    from transformers import LlamaConfig

    saved(folder, LlamaConfig(**SMALL), "LlamaTokenizer")
    shutil.copy(source, folder / name)
    return folder


@pytest.fixture
def ranks(tmp_path: Path) -> Path:
    """tiktoken's file: a token in base64 and its rank, a line each; bytes come first."""
    tokens = [bytes([i]) for i in range(256)] + [b"oo", b"is", b" i", b" is", b"we"]
    path = tmp_path / "ranks"
    path.write_bytes(
        b"\n".join(base64.b64encode(t) + b" %d" % i for i, t in enumerate(tokens)) + b"\n"
    )
    return path


def test_a_classifier_with_sentencepiece_alone_is_trained_and_served(
    deberta: Path, tmp_path: Path
) -> None:
    rows = [{"text": text, "label": "good" if "good" in text else "bad"} for text in SENTENCES]
    settings = {"method": "text-classification", "max_steps": 2, "report_to": "none"}
    job = lay_out(tmp_path / "job", settings, train=rows, model=deberta)
    code, log = job.train()
    assert code == 0, log
    assert (job.model / "tokenizer.json").is_file()

    from transformers import AutoTokenizer

    from sm_serve.artefact.artefact import inspect
    from sm_serve.config import Settings
    from sm_serve.engines.loading import load_tokenizer

    base = AutoTokenizer.from_pretrained(deberta)
    served = load_tokenizer(inspect(job.model, Settings()), Settings())
    assert served(SENTENCES)["input_ids"] == base(SENTENCES)["input_ids"]
    assert (
        served.decode(served(SENTENCES[0])["input_ids"], skip_special_tokens=True) == (SENTENCES[0])
    )


@pytest.mark.parametrize("name", ["tokenizer.model", "tiktoken.model"])
def test_a_language_model_with_such_a_file_alone_is_served(
    tmp_path: Path, pieces: Callable[[str], Path], ranks: Path, name: str
) -> None:
    """By the real server: its answer is what `generate` gives for the same tokens."""
    sys.path.insert(0, str(Path(__file__).parent / "serving"))
    serving = beside("serving", "serving_process")
    source = pieces("bpe") if name == "tokenizer.model" else ranks
    folder = llama(tmp_path / "llama", name, source)
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(SENTENCES[0], return_tensors="pt")
    assert 5 < ids["input_ids"].shape[1] < 60
    made = AutoModelForCausalLM.from_pretrained(folder).generate(
        **ids, max_new_tokens=5, do_sample=False
    )
    expected = tokenizer.decode(made[0, ids["input_ids"].shape[1] :], skip_special_tokens=True)
    with serving.Server(serving.base_with(folder, tmp_path / "base")) as server:
        body = {"inputs": SENTENCES[0], "parameters": {"max_new_tokens": 5}}
        answer = server.invoke(body)
    assert answer.status_code == 200, answer.text
    (generated,) = answer.json()
    assert generated["generated_text"].endswith(expected)


def test_sentencepiece_and_protobuf_go_together(pieces: Callable[[str], Path]) -> None:
    """A pair of versions that cannot read a model falls back to tiktoken with a warning only."""
    from sentencepiece import sentencepiece_model_pb2

    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(pieces("unigram").read_bytes())
    assert len(proto.pieces) > 100
