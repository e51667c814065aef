"""Tiny models with a tiny real tokenizer, made from configs: no weights are downloaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

VOCABULARY = (
    "the a it was is good bad great poor film movie plot acting i you we not very never always"
    " loved hated warm up what who when where stop end hello world one two three four five"
)
CHAT_TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|> {{ m['content'] }} {% endfor %}"
    "{% if add_generation_prompt %}<|assistant|> {% endif %}"
)


def tokenizer(path: Path, *, bert: bool) -> Any:
    """A byte-level BPE tokenizer trained on a few words, so that any text round-trips."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    special = ["<pad>", "<s>", "</s>", "<|user|>", "<|assistant|>", "<|system|>"]
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator([VOCABULARY] * 4, trainer)
    if bert:
        raw.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>",
            pair="<s> $A </s> $B:1 </s>:1",
            special_tokens=[("<s>", 1), ("</s>", 2)],
        )
    names = ["input_ids", "token_type_ids", "attention_mask"] if bert else None
    fast = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        model_max_length=128 if bert else 512,
        **({"model_input_names": names} if names else {}),
    )
    if not bert:
        fast.chat_template = CHAT_TEMPLATE
    fast.save_pretrained(path)
    return fast


def _bert_config(labels: list[str]) -> Any:
    from transformers import BertConfig

    return BertConfig(
        vocab_size=400,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=128,
        id2label=dict(enumerate(labels)),
        label2id={label: i for i, label in enumerate(labels)},
        pad_token_id=0,
        initializer_range=0.5,
    )


def encoder(path: Path, architecture: str, labels: list[str]) -> Path:
    """A BERT of two layers with the head of `architecture`, random but fixed."""
    import torch
    import transformers

    torch.manual_seed(7)
    model = getattr(transformers, architecture)(_bert_config(labels))
    model.save_pretrained(path)
    tokenizer(path, bert=True)
    return path


def classifier(path: Path) -> Path:
    """A three-class sentiment classifier."""
    return encoder(path, "BertForSequenceClassification", ["negative", "neutral", "positive"])


def embedding_model(path: Path) -> Path:
    """An encoder without a head."""
    return encoder(path, "BertModel", ["a"])


def language_model(path: Path) -> Path:
    """A Llama of two layers. Large initial weights make its greedy answers varied."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(7)
    config = LlamaConfig(
        vocab_size=400,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        initializer_range=0.3,
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config)
    model.generation_config.eos_token_id = 2
    model.save_pretrained(path)
    tokenizer(path, bert=False)
    return path


def script(model_dir: Path, code: str) -> Path:
    """Puts an inference.py into a model directory."""
    folder = model_dir / "code"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "inference.py").write_text(code)
    return model_dir
