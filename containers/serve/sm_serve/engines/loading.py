"""Loading of models and tokenizers with the container's safety rules."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sm_serve.artefact.artefact import Artefact
from sm_serve.artefact.learnt import learnt_parameters
from sm_serve.config import Settings
from sm_serve.engines.adapters.adapter_files import check_numbers
from sm_serve.engines.adapters.missing_head import gaps_of
from sm_serve.engines.devices import best_device, computed_type
from sm_serve.engines.packing import pack_linears
from sm_serve.engines.processors import available_cpus, use_processors
from sm_serve.engines.quantised import ELSEWHERE, dense_options, quiet_override
from sm_serve.errors import BadRequest, StartupError
from sm_serve.tasks import declared

logger = logging.getLogger(__name__)

TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json", "tokenizer.model",
    "tiktoken.model", "spm.model", "spiece.model", "sentencepiece.bpe.model", "tekken.json",
)  # fmt: skip
"""By one of these a directory is known to hold a tokenizer; transformers reads every kind."""
UNSET_LENGTH = 1_000_000
"""Tokenizers without a limit say 1e30; anything above this is such a non-limit."""


def load_tokenizer(artefact: Artefact, settings: Settings) -> Any:
    """The tokenizer of the artefact, or of its base for an adapter without one."""
    import transformers

    for path in (artefact.path, artefact.base):
        if any((path / name).is_file() for name in TOKENIZER_FILES):
            return transformers.AutoTokenizer.from_pretrained(
                path, local_files_only=True, trust_remote_code=settings.trust_remote_code
            )
    raise StartupError(
        f"no tokenizer in {artefact.path}: save it beside the model with"
        " tokenizer.save_pretrained()"
    )


def load_model(artefact: Artefact, settings: Settings, **options: Any) -> Any:
    """The model in evaluation mode on the best device, an unmerged adapter merged into it."""
    return load_with_gaps(artefact, settings, **options)[0]


def load_with_gaps(
    artefact: Artefact, settings: Settings, **options: Any
) -> tuple[Any, frozenset[str]]:
    """The model as `load_model` gives it, and what of its head neither it nor a merged adapter has.

    StartupError where no adapter to choose from can fill such a gap.
    """
    import torch
    import transformers

    name = declared()[artefact.task].model_class
    if artefact.encoder_decoder and name == "AutoModelForCausalLM":
        name = "AutoModelForSeq2SeqLM"
    if name == "AutoModelForCausalLM":
        check_reads_text_alone(artefact.config)
    if name == "AutoModel" and is_half_of_pair(artefact):
        name = "AutoModelForTextEncoding"
    device = best_device(settings)
    if device == "cpu":
        torch.set_num_threads(available_cpus())
    logger.info("loading %s from %s on %s", name, artefact.base, device)
    with quiet_override():
        model, loading_info = getattr(transformers, name).from_pretrained(
            artefact.base,
            output_loading_info=True,
            dtype=choose_dtype(settings, device),
            local_files_only=True,
            use_safetensors=None if settings.allow_pickle_weights else True,
            trust_remote_code=settings.trust_remote_code,
            **artefact.head,
            **dense_options(artefact.config),
            **options,
        )
    gaps = gaps_of(model, artefact, loading_info)
    if artefact.is_adapter:
        model = _merge_adapter(model, artefact.path)
        model.config.task_specific_params = artefact.config.get("task_specific_params")
        if (artefact.path / "generation_config.json").is_file():
            model.generation_config = transformers.GenerationConfig.from_pretrained(
                artefact.path, local_files_only=True
            )
    if settings.dtype == "auto" and not getattr(model, "is_quantized", False):
        narrow = name == "AutoModelForCausalLM"
        model = model.to(computed_type(model.dtype, device, narrow=narrow))
    model = model.to(device).eval()
    if device == "cpu":
        use_processors(model)
        pack_linears(model)
    return model, gaps


def check_reads_text_alone(config: Mapping[str, Any]) -> None:
    """StartupError for a model of texts and images that transformers has no class for texts of."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    kind = config.get("model_type")
    if "vision_config" not in config or "auto_map" in config:
        return
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise StartupError(
            f"config.json: model_type {kind!r} takes images, which this engine does not serve:"
            f" {ELSEWHERE}"
        )


def is_half_of_pair(artefact: Artefact) -> bool:
    """Whether texts are embedded by the encoder of an encoder-decoder alone, as of a T5."""
    names = artefact.config.get("architectures") or []
    return artefact.encoder_decoder or any(str(name).endswith("EncoderModel") for name in names)


def _merge_adapter(model: Any, path: Path) -> Any:
    try:
        from peft import PeftModel
    except ImportError as error:
        raise StartupError(
            f"{path} is an unmerged adapter, and peft is not installed: install sm-serve[adapters]"
            " or merge before deploying"
        ) from error
    logger.info("merging the adapter of %s", path)
    try:
        check_numbers(path)
    except BadRequest as error:
        raise StartupError(f"{path}: {error.message}") from error
    try:
        tuned = PeftModel.from_pretrained(model, path, use_safetensors=True)
    except (RuntimeError, ValueError) as error:
        reason = str(error).split("\n\t", 2)
        raise StartupError(
            f"the adapter of {path} does not fit its base model: {' '.join(reason[:2])[:300]}"
        ) from error
    return tuned.merge_and_unload()


def choose_dtype(settings: Settings, device: str) -> Any:
    """float32 on CPU, where its answers are the most exact; else what the model was saved in.

    An adapter is merged in that type; `computed_type` says what the GPU then computes in.
    """
    import torch

    if settings.dtype != "auto":
        return getattr(torch, settings.dtype)
    return torch.float32 if torch.device(device).type == "cpu" else "auto"


def max_length(config: Any, tokenizer: Any) -> int:
    """Longest input in tokens that the model can read."""
    limits = []
    positions = getattr(config, "max_position_embeddings", None)
    if isinstance(positions, int) and positions > 0:
        # RoBERTa and its kin count positions from the padding index on.
        offset = (config.pad_token_id or 0) + 1 if _offset_positions(config) else 0
        limits.append(positions - offset)
    if 0 < tokenizer.model_max_length < UNSET_LENGTH:
        limits.append(int(tokenizer.model_max_length))
    return min(limits, default=512)


def learnt_length(config: Any, methods: Sequence[str], limit: int) -> int:
    """To how many tokens training cut inputs, where config.json says so (`task_specific_params` of
    one of these methods); else, and at most, `limit`."""
    lengths = [learnt_parameters(config, method).get("max_length") for method in methods]
    return min([limit, *(n for n in lengths if isinstance(n, int) and n > 0)])


def _offset_positions(config: Any) -> bool:
    return any(name in str(config.model_type) for name in ("roberta", "camembert", "mpnet"))
