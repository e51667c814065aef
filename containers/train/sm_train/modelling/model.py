"""Base models as they are loaded: type, attention, LoRA."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sm_train.errors import StoppedBySignalError, UserError, shorten
from sm_train.job import Job
from sm_train.modelling.base_model import check_generates
from sm_train.modelling.chat_templates import settle_chat_template
from sm_train.modelling.end_of_turn import taught_by_lora, teach
from sm_train.modelling.generation_prompt import as_made, learns_answers
from sm_train.modelling.images import load_processor
from sm_train.modelling.lora import check_lora_targets, check_mergeable, is_quantised, lora_targets
from sm_train.settings.arguments import ModelArguments

_SEED = 42  # transformers' own default
_WRITING, _SEEING = "AutoModelForCausalLM", "AutoModelForImageTextToText"


def load_tokenizer(job: Job) -> Any:
    """The base model's tokenizer, or its processor where rows have images, ready for the job."""
    from transformers import AutoTokenizer

    named = job.config.model
    options: dict[str, Any] = {
        "revision": named.model_revision,
        "trust_remote_code": named.trust_remote_code,
    }
    if job.has_images:
        processor = load_processor(job, loaded, **options)
        _settle_tokenizer(job, processor.tokenizer)
        processor.chat_template = processor.tokenizer.chat_template
        return processor
    tokenizer = loaded(AutoTokenizer.from_pretrained, job.model_source, **options)
    _settle_tokenizer(job, tokenizer)
    return tokenizer


def _settle_tokenizer(job: Job, tokenizer: Any) -> None:
    """Its padding token, and the job's chat template."""
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    if learns_answers(job):
        tokenizer.chat_template = as_made(tokenizer.chat_template)
    settle_chat_template(job, tokenizer)


def generator(job: Job) -> str:
    """The Auto class of a model that writes text, maybe about images."""
    return _SEEING if job.has_images else _WRITING


def load_model(job: Job, auto_class: str, **overrides: Any) -> Any:
    """The base model through a transformers Auto class, in the type that suits the hardware."""
    import transformers

    if auto_class in (_WRITING, _SEEING):
        check_generates(job.model_source, "model_name_or_path")
    options = job.config.model
    auto_class = _that_loads(job, auto_class)
    seed_weights(job)
    attention = choose_attention(options)
    settings: dict[str, Any] = {
        "revision": options.model_revision,
        "trust_remote_code": options.trust_remote_code,
        "dtype": weight_type(options),
        "attn_implementation": attention.name,
        "quantization_config": _quantization(options),
    }
    settings.update(options.model_init_kwargs)
    settings.update(overrides)
    chosen = {key: value for key, value in settings.items() if value is not None}
    load = getattr(transformers, auto_class).from_pretrained
    try:
        model = loaded(load, job.model_source, **chosen)
    except UserError:
        if options.attn_implementation or not attention.name:
            raise
        # Not every architecture has FlashAttention; what transformers then takes always works.
        chosen.pop("attn_implementation")
        model = loaded(load, job.model_source, **chosen)
    check_lora_targets(model, options)
    check_mergeable(model, options, job.config.job.export)
    settle_generation_config(job, model)
    teach(job, model)
    return model


def _that_loads(job: Job, auto_class: str) -> str:
    """The Auto class, or that of models for images where a base model has no other one."""
    import transformers

    if auto_class != _WRITING:
        return auto_class
    config = loaded(
        transformers.AutoConfig.from_pretrained,
        job.model_source,
        revision=job.config.model.model_revision,
        trust_remote_code=job.config.model.trust_remote_code,
    )
    writes, sees = (getattr(transformers, name)._model_mapping for name in (_WRITING, _SEEING))
    return _SEEING if type(config) not in writes and type(config) in sees else _WRITING


def seed_weights(job: Job) -> None:
    """The trainer seeds too late for weights that are drawn while loading, such as a new head's."""
    from transformers import set_seed

    set_seed(int(job.config.training.get("seed") or _SEED))


def loaded(load: Any, source: str, **options: Any) -> Any:
    """Call `from_pretrained`; what it cannot find or read is the user's input, not our bug."""
    try:
        return load(source, **options)
    except (UserError, StoppedBySignalError, MemoryError):
        raise
    except Exception as error:  # down to the parsers' own, which have no common base
        if "out of memory" in str(error).lower():
            raise
        raise UserError(
            f"cannot be loaded: {type(error).__name__}: {shorten(str(error), 400)}",
            field="model_name_or_path",
            value=source,
            fix="check the id or path, that it is public or a token is set, and its files",
        ) from error


def weight_type(options: ModelArguments) -> str:
    """Half precision halves the memory of frozen weights; trained ones lose small steps in it."""
    if options.dtype is not None:
        return options.dtype
    import torch

    if not (options.use_peft and torch.cuda.is_available()):
        return "float32"
    return "bfloat16" if has_bf16() else "float16"


def has_bf16() -> bool:
    """Whether the GPU, or the CPU where there is none, multiplies bfloat16 matrices itself.

    On a CPU (AVX-512 BF16, AMX) a step is then 1.4 times as fast and more; other CPUs emulate it,
    slower than float32. GPUs have it from compute capability 8.0; older ones emulate it, too.
    """
    import torch

    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


def mixed_precision(given: Mapping[str, Any]) -> dict[str, bool]:
    """What the machine computes in where the settings leave it open: bf16, else fp16 on a GPU."""
    import torch

    native = has_bf16()
    return {
        "bf16": native and not given.get("fp16"),
        "fp16": torch.cuda.is_available() and not native and not given.get("bf16"),
    }


def widen_trained(model: Any, arguments: Any) -> int:
    """Weights that are trained, in float32 where the computing is in half precision by autocast.

    They lose small steps otherwise, and float16's loss scaling refuses them. How many were widened.
    """
    import torch

    if not (arguments.bf16 or arguments.fp16):
        return 0
    half = [torch.float16]
    # In full training bfloat16 was asked for; TRL trains adapters of quantised models in it.
    if arguments.fp16 or (hasattr(model, "peft_config") and not is_quantised(model)):
        half.append(torch.bfloat16)
    narrow = [p for p in model.parameters() if p.requires_grad and p.dtype in half]
    for parameter in narrow:
        parameter.data = parameter.data.float()
    return len(narrow)


@dataclass(frozen=True)
class Attention:
    """An implementation by its name in transformers (None leaves it to the model), and why it."""

    name: str | None
    why: str


# FlashAttention's versions by the GPU's compute capability, the best first: 3 is made for Hopper
# alone, 4 for Blackwell of the data centre and Hopper (a beta: on Hopper behind the others).
_FLASH_VERSIONS = {8: (2,), 9: (3, 2, 4), 10: (4, 2), 12: (2,)}


def choose_attention(options: ModelArguments) -> Attention:
    """The one that was asked for, else the fastest that this GPU and what is installed allow.

    Nothing is fetched for it: Hub kernels are taken where attn_implementation names them.
    """
    import torch
    import transformers.utils as library

    if options.attn_implementation:
        return Attention(options.attn_implementation, "as attn_implementation says")
    if not torch.cuda.is_available():
        return Attention(None, "no GPU")
    major = torch.cuda.get_device_capability()[0]
    if major < 8:
        return Attention(None, f"FlashAttention needs compute capability 8, this GPU has {major}")
    for version in _FLASH_VERSIONS.get(major, ()):
        if getattr(library, f"is_flash_attn_{version}_available")():
            return Attention(f"flash_attention_{version}", f"flash-attn {version} is installed")
    fitting = " or ".join(f"flash-attn {v}" for v in _FLASH_VERSIONS.get(major, ())) or "none known"
    return Attention(None, f"not installed: {fitting}, for compute capability {major}")


def _quantization(options: ModelArguments) -> Any:
    if not (options.load_in_4bit or options.load_in_8bit):
        return None
    import torch
    from transformers import BitsAndBytesConfig

    if not torch.cuda.is_available():
        raise UserError(
            "quantised training needs an NVIDIA GPU, and there is none here",
            field="load_in_4bit" if options.load_in_4bit else "load_in_8bit",
            value=True,
            fix="use a GPU instance type, or set it to false",
        )
    if options.load_in_8bit:
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_compute_dtype=torch.bfloat16 if has_bf16() else torch.float16,
        bnb_4bit_quant_type=options.bnb_4bit_quant_type,
        bnb_4bit_use_double_quant=options.use_bnb_nested_quant,
        bnb_4bit_quant_storage=options.bnb_4bit_quant_storage or "uint8",
    )


def peft_config(job: Job, task_type: str = "CAUSAL_LM", head: tuple[str, ...] = ()) -> Any:
    """The LoRA config that the settings ask for, or None. `head`: new modules, trained in full."""
    options = job.config.model
    if not options.use_peft:
        return None
    from peft import LoraConfig

    # PEFT has no dropout for single parameters; one that was asked for has been refused.
    plain = options.lora_target_parameters and "lora_dropout" not in job.config.given
    return LoraConfig(
        task_type=options.lora_task_type or task_type,
        r=options.lora_r,
        lora_alpha=options.lora_alpha,
        lora_dropout=0.0 if plain else options.lora_dropout,
        bias="none",
        use_rslora=options.use_rslora,
        use_dora=options.use_dora,
        target_modules=lora_targets(options),
        target_parameters=options.lora_target_parameters,
        exclude_modules=list(head) or None,
        modules_to_save=[*(options.lora_modules_to_save or []), *head] or None,
        trainable_token_indices=taught_by_lora(job),
    )


def settle_generation_config(job: Job, model: Any) -> None:
    """Make sure that it can be saved: transformers refuses one that contradicts itself.

    It would do so with the first checkpoint. Published models set temperature or top_p, and leave
    out do_sample, without which these mean nothing: what they say is that answers are sampled.

    Raises UserError for any other contradiction.
    """
    config = getattr(model, "generation_config", None)
    if config is None or not model.can_generate():
        return
    try:
        config.validate(strict=True)
        return
    except ValueError:
        config.do_sample = True
    try:
        config.validate(strict=True)
    except ValueError as error:
        raise UserError(
            f"contradicts itself, and could not be saved: {shorten(str(error), 400)}",
            field="generation_config.json",
            fix="correct the base model's file",
        ) from error
    if job.is_main:
        from sm_train.log import print_line

        print_line("generation_config.json: do_sample is set to true, which its settings ask for")


def head_modules(model: Any) -> tuple[str, ...]:
    """Names of a task model's own top modules that hold weights, such as classifier or score."""
    return tuple(
        name
        for name, module in model.named_children()
        if name != model.base_model_prefix and any(True for _ in module.parameters())
    )


def adapt(job: Job, model: Any, task_type: str) -> Any:
    """The model with a LoRA adapter where the settings ask for one; its own head trains in full."""
    config = peft_config(job, task_type, head_modules(model))
    if config is None:
        return model
    from peft import get_peft_model

    return get_peft_model(model, config)
