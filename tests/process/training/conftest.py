"""Tiny models made from configs, and jobs as SageMaker lays them out."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from training_jobs import Base, Rows, lay_out

VOCABULARY = [f"w{i}" for i in range(40)] + ["good", "great", "fine", "bad", "awful", "dull"]
CHAT = (
    "{% for m in messages %}<{{ m.role }}>{% if m.role == 'assistant' %}{% generation %}"
    "{{ m.content }}{{ eos_token }}{% endgeneration %}{% else %}{{ m.content }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)


NewJob = Callable[..., Base]


@pytest.fixture
def new_job(tmp_path: Path) -> NewJob:
    """Lay out a job: channels by keyword, hyperparameters as the platform writes them."""
    return lambda *a, **k: lay_out(tmp_path / "job", *a, **k)


@pytest.fixture(scope="session")
def session_job(tmp_path_factory: pytest.TempPathFactory) -> NewJob:
    return lambda *a, **k: lay_out(tmp_path_factory.mktemp("job"), *a, **k)


def save_tokenizer(folder: Path, *, pad: bool = True, chat: bool = False) -> int:
    """A word-level tokenizer; returns the number of its tokens."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    extra = ["user", "assistant", "system", "<", ">", "?", "{", "}", ".", "capital", "city"]
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "</s>"]
    vocabulary = {word: i for i, word in enumerate([*special, *VOCABULARY, *extra])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, unk_token="[UNK]", eos_token="</s>", model_max_length=128
    )
    if pad:
        tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.add_special_tokens({"cls_token": "[CLS]", "sep_token": "[SEP]"})
    if chat:
        tokenizer.chat_template = CHAT
    tokenizer.save_pretrained(folder)
    return len(vocabulary)


@pytest.fixture(scope="session")
def word_tokenizer() -> Callable[[Path], Any]:
    """`save_tokenizer`, and what is read from there."""

    def made(folder: Path) -> Any:
        from transformers import AutoTokenizer

        save_tokenizer(folder)
        return AutoTokenizer.from_pretrained(folder)

    return made


@pytest.fixture(scope="session")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Tiny BERT, RoBERTa and DistilBERT without a head."""
    import transformers as tf

    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    short = {"max_position_embeddings": 160, "pad_token_id": 0}
    folders = {}
    for name in ("bert", "roberta", "distilbert"):
        folder = tmp_path_factory.mktemp(name)
        vocabulary = save_tokenizer(folder)
        common = {"vocab_size": vocabulary, **short}
        config: Any = {
            "bert": lambda c=common: tf.BertConfig(**c, **sizes, intermediate_size=64),
            "roberta": lambda c=common: tf.RobertaConfig(**c, **sizes, intermediate_size=64),
            "distilbert": lambda c=common: tf.DistilBertConfig(
                **c, dim=32, n_layers=2, n_heads=2, hidden_dim=64
            ),
        }[name]()
        tf.set_seed(0)
        tf.AutoModel.from_config(config).save_pretrained(folder)
        folders[name] = folder
    return folders


def save_decoder(folder: Path, **settings: Any) -> Path:
    """A tiny Llama whose tokenizer has a chat template and no padding token."""
    import transformers as tf

    config = tf.LlamaConfig(
        vocab_size=save_tokenizer(folder, pad=False, chat=True),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=256,
        eos_token_id=4,
        bos_token_id=None,
        **settings,
    )
    tf.set_seed(0)
    tf.LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_decoder(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="session")
def tied_decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One whose embedding is its head too."""
    return save_decoder(tmp_path_factory.mktemp("tied"), tie_word_embeddings=True)


@pytest.fixture(scope="session")
def sentiment() -> Callable[[int, int], Rows]:
    """`count` rows whose class is plain from one word among others."""

    def rows(count: int, seed: int) -> Rows:
        chance = random.Random(seed)
        made = []
        for i in range(count):
            tokens = chance.choices(VOCABULARY[:40], k=chance.randint(2, 12))
            good = i % 2 == 0
            tokens.append(chance.choice(VOCABULARY[40:43] if good else VOCABULARY[43:]))
            chance.shuffle(tokens)
            made.append({"text": " ".join(tokens), "label": "pos" if good else "neg"})
        return made

    return rows


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny models are slower on several threads, and other tests want the cores."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    yield
