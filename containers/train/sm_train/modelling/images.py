"""Rows with images as a model gets them: by TRL's own collators, which make them when needed.

A processor turns an image into as many tokens as its size asks for. Each row is made once before
the first step, to be counted and refused in time, and again for each of its batches: what comes of
an image takes a thousand times the place of its file.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sm_train.data.images import IMAGES
from sm_train.errors import shorten
from sm_train.modelling.base_model import PROCESSOR_FILES, lacking_for_images, text_model
from sm_train.modelling.sequences import (
    ended,
    labelled_columns,
    marked_template,
    pair_columns,
    preference_tokens,
    setting,
    sft_tokens,
    shortened,
)
from sm_train.rows import Tokens

if TYPE_CHECKING:
    from sm_train.job import Job
    from sm_train.settings.settings import Config

_ANSWERS = ("completion", "chosen", "rejected")
_OF_IMAGES = ("image", "vision", "img", "boi", "eoi")


def inner_tokenizer(tokenizer: Any) -> Any:
    """The tokenizer of a processor; a tokenizer as it is."""
    return getattr(tokenizer, "tokenizer", tokenizer)


def taught_tokens(row: dict[str, Any], config: Config, tokenizer: Any) -> list[Tokens]:
    """The sequence of a row of sft; `tokenizer` is a processor where rows have images."""
    if IMAGES not in row:
        return sft_tokens(row, config, tokenizer)
    batch = _made(_sft_collator(row, config, tokenizer), row, tokenizer)
    learnt = [label != -100 for label in batch["labels"][0].tolist()]
    whole = Tokens(batch["input_ids"][0].tolist(), learnt)
    return [_within_length(whole, config, tokenizer)]


def compared_tokens(row: dict[str, Any], config: Config, tokenizer: Any) -> list[Tokens]:
    """Both sequences of a row of dpo; `tokenizer` is a processor where rows have images."""
    if IMAGES not in row:
        return preference_tokens(row, config, tokenizer)
    from trl.trainer.dpo_trainer import DataCollatorForVisionPreference

    batch = _made(DataCollatorForVisionPreference(tokenizer), row, tokenizer)
    sequences = []
    for place, name in enumerate(("chosen", "rejected")):
        real = batch["attention_mask"][place].bool()
        ids = batch["input_ids"][place][real].tolist()
        learnt = batch["completion_mask"][place][real].bool().tolist()
        answer = learnt.index(True) if True in learnt else len(ids)
        whole = Tokens(ids, learnt, name, answer=answer)
        sequences.append(_within_length(whole, config, tokenizer))
    return sequences


def taught_columns(row: dict[str, Any], sequences: list[Tokens]) -> dict[str, Any]:
    """What sft's trainer takes instead of a row; one with images it takes as it is."""
    return {} if IMAGES in row else labelled_columns(row, sequences)


def compared_columns(row: dict[str, Any], sequences: list[Tokens]) -> dict[str, Any]:
    """What dpo's trainer takes instead of a row; one with images it takes as it is."""
    return {} if IMAGES in row else pair_columns(row, sequences)


def _sft_collator(row: dict[str, Any], config: Config, processor: Any) -> Any:
    """As SFTTrainer makes it, but for max_length, beyond which our count has to look."""
    from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

    by_assistant = bool(setting(config, "assistant_only_loss"))
    completion_only = setting(config, "completion_only_loss")
    return DataCollatorForVisionLanguageModeling(
        processor,
        completion_only_loss="completion" in row if completion_only is None else completion_only,
        assistant_only_loss=by_assistant,
        chat_template=marked_template(processor) if by_assistant else None,
    )


def _made(collator: Any, row: dict[str, Any], processor: Any) -> Any:
    """A batch of one row. Raises ValueError where the processor does not take it."""
    try:
        return ImageBatches(collator, processor)([row])
    except (OSError, ValueError, TypeError, IndexError, SyntaxError) as error:
        raise ValueError(
            f"the model's processor does not take it: {shorten(str(error), 300)}"
        ) from error


def _within_length(tokens: Tokens, config: Config, processor: Any) -> Tokens:
    """Cut at max_length, where that leaves the images whole: a model wants all of their tokens."""
    kept = shortened(tokens, config)
    gone = set(tokens.ids[len(kept.ids) :])
    if gone & image_token_ids(processor):
        raise ValueError(f"its images do not fit into max_length {setting(config, 'max_length')}")
    return kept


def image_token_ids(processor: Any) -> frozenset[int]:
    """The tokens that stand for images, and those that a processor puts around them.

    Processors hold them as attributes such as `image_token_id` and `fake_image_token`, tokenizers
    as special tokens such as `boi_token`.
    """
    tokenizer = inner_tokenizer(processor)
    known = tokenizer.get_vocab()
    ids: set[int] = set()
    for name, value in {**tokenizer.special_tokens_map, **vars(processor)}.items():
        if not any(part in name for part in _OF_IMAGES) or isinstance(value, bool):
            continue
        if name.endswith("token_id") and isinstance(value, int):
            ids.add(value)
        elif isinstance(value, str) and value in known:
            ids.add(known[value])
    return frozenset(ids)


@dataclass
class ImageBatches:
    """A collator of TRL's over rows that name their images: these are opened for one batch.

    Tokens of images are never learnt: where whole conversations are, TRL would teach the model to
    write them.
    """

    collator: Any
    processor: Any

    def __call__(self, examples: Sequence[dict[str, Any]]) -> Any:
        """The batch as TRL's collator makes it."""
        tokenizer = inner_tokenizer(self.processor)
        batch = self.collator([_opened(example, tokenizer) for example in examples])
        if "labels" in batch:
            import torch

            silent = torch.tensor(sorted(image_token_ids(self.processor)))
            batch["labels"][torch.isin(batch["labels"], silent)] = -100
        return batch


def _opened(example: dict[str, Any], tokenizer: Any) -> dict[str, Any]:
    """A row with its images decoded, without the nulls that Arrow fills in; text ends as TRL's."""
    from transformers.image_utils import load_image

    row = {name: _without_nulls(value) for name, value in example.items() if value is not None}
    for name in _ANSWERS:
        if isinstance(row.get(name), str):
            row[name] = ended(row[name], tokenizer)
    row[IMAGES] = [load_image(path) for path in example[IMAGES]]
    return row


def _without_nulls(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return value


def load_processor(job: Job, load: Callable[..., Any], **options: Any) -> Any:
    """The base model's processor for texts and images. UserError where it has none."""
    from transformers import ProcessorMixin

    processor = load(_read_processor, job.model_source, **options)
    if isinstance(processor, ProcessorMixin) and hasattr(processor, "image_processor"):
        tokenizer = processor.tokenizer
        tokenizer.chat_template = processor.chat_template or tokenizer.chat_template
        return processor
    raise text_model(job.model_source)


def _read_processor(source: str, **options: Any) -> Any:
    """Raises UserError where a package is missing: those for videos want torchvision."""
    from transformers import AutoProcessor

    try:
        return AutoProcessor.from_pretrained(source, **options)
    except ImportError as error:
        raise lacking_for_images(source, shorten(str(error))) from error


def keep_processor(job: Job, model: Any, folder: Path) -> None:
    """The base model's processor beside a model that takes images and was trained on text alone."""
    import transformers
    from transformers.utils import cached_file

    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    seeing = transformers.AutoModelForImageTextToText._model_mapping
    kind = type(getattr(base, "config", None))
    if job.has_images or kind not in seeing:
        return
    kinds = seeing[kind]
    if not isinstance(base, kinds if isinstance(kinds, tuple) else (kinds,)):
        return  # its language model alone
    for name in PROCESSOR_FILES:
        path = cached_file(
            job.model_source,
            name,
            revision=job.config.model.model_revision,
            _raise_exceptions_for_missing_entries=False,
        )
        if path is not None:
            shutil.copyfile(path, folder / name)


def sample_with_image(processor: Any, text: str) -> Any:
    """A picture and a text as a model gets them."""
    from PIL import Image

    if not processor.chat_template:
        return processor(text=text, return_tensors="pt")
    picture = Image.linear_gradient("L").convert("RGB")
    parts = [{"type": "image", "image": picture}, {"type": "text", "text": text}]
    return processor.apply_chat_template(
        [{"role": "user", "content": parts}], tokenize=True, return_dict=True, return_tensors="pt"
    )
