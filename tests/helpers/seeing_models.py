"""A tiny model that takes images: Idefics3, whose processor needs no torchvision."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

SIDE = 28  # pixels of an image, which becomes 4 tokens of its own and 3 around them
COLOURS = ("red", "blue", "green", "black")


def save_seeing(folder: Path, tokenizer: Any, template: str) -> Path:
    """An Idefics3 of two layers over a tower of two, both random but fixed.

    Args:
        folder: gets weights, configs, tokenizer and processor.
        tokenizer: of a language model; it gets the tokens of images.
        template: the chat template, for messages whose content is parts.
    """
    import torch
    from transformers import (
        Idefics3Config,
        Idefics3ForConditionalGeneration,
        Idefics3ImageProcessorPil,
        Idefics3Processor,
        LlamaConfig,
    )

    torch.manual_seed(7)
    names = ["<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>"]
    tokenizer.add_tokens(names, special_tokens=True)
    tokenizer.chat_template = template
    longest = {"longest_edge": SIDE}
    pictures = Idefics3ImageProcessorPil(
        size=longest, max_image_size=longest, do_image_splitting=False
    )
    processor = Idefics3Processor(pictures, tokenizer, image_seq_len=4, chat_template=template)
    processor.save_pretrained(folder)
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    text = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=512,
        initializer_range=0.5, bos_token_id=None, **ends,
    )  # fmt: skip
    vision = {
        "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 2, "image_size": SIDE, "patch_size": 7,
    }  # fmt: skip
    config = Idefics3Config(
        vision_config=vision, text_config=text, scale_factor=2,
        pad_token_id=tokenizer.pad_token_id,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
    )  # fmt: skip
    model = Idefics3ForConditionalGeneration(config)
    for name, weight in model.named_parameters():
        if "text_model" not in name and weight.ndim > 1:
            weight.data.normal_(std=0.5)  # or no picture would matter
    model.save_pretrained(folder)
    return folder


def drawn(colour: str, size: tuple[int, int] = (SIDE, SIDE)) -> Any:
    """An image of one colour."""
    from PIL import Image

    return Image.new("RGB", size, colour)


def as_png(picture: Any) -> bytes:
    """An image's file."""
    import io

    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def noise(seed: int, size: tuple[int, int] = (SIDE, SIDE)) -> Any:
    """An image unlike any other."""
    from PIL import Image

    width, height = size
    chance = random.Random(seed)
    return Image.frombytes("RGB", size, chance.randbytes(3 * width * height))
