"""The GPU memory of a training, with the lines of its arithmetic.

Weights, gradients and optimizer are exact; of activations `activations.py` tells. What a setting is
where job.yaml does not say it, the schema of the method does: the trainer's own default.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sm_launch.job import activations
from sm_launch.job.activations import Shape, Step
from sm_launch.job.hyperparameters import default_of
from sm_launch.job.matrices import Size
from sm_launch.job.training import HyperparameterValue

GIB = 2.0**30
# One layer's activations of a model that only looks, in bytes a parameter and row of 1024 tokens.
LOOKING_BYTES = 0.03
# LoRA of rank 16 on every linear layer adds about so many of the base model's parameters, where its
# layers are not known.
LORA_SHARE, LORA_RANK = 0.01, 16
FULL_PRECISION_BYTES, HALF_PRECISION_BYTES = 4.0, 2.0
# Quantised weights with their scales: of 64 numbers in four bits, and of a row in eight. They are
# those of linear layers, so many of all where the layers are not known; the rest stays in half.
EIGHT_BIT_BYTES, FOUR_BIT_BYTES = 1.01, 0.57
LINEAR_SHARE = 0.92
# Numbers a trained parameter beside itself: its gradient, and what the optimizer keeps.
GRADIENT, ADAM = 1.0, 2.0
_OPTIMIZERS = {"adafactor": 0.1, "sgd": 0.0, "lion": 1.0, "adamw_8bit": 0.5, "adamw_bnb_8bit": 0.5,
               "paged_adamw_8bit": 0.5, "adagrad": 1.0, "rmsprop": 1.0}  # fmt: skip
# Sequences of a row, and models that hold weights beside adapters: the trainer's Method.in_memory.
IN_MEMORY = {"sft": (1, 1), "reward": (2, 1), "dpo": (2, 2), "kto": (2, 2), "orpo": (2, 1),
             "cpo": (2, 1)}  # fmt: skip
# Methods of TRL: they compute activations anew wherever the GPU would not keep them (the trainer's
# loop/fit.py), and train adapters of quantised models in bfloat16.
OF_TRL = frozenset({"sft", "dpo", "kto", "grpo", "rloo", "distillation", "reward", "cpo", "orpo"})
# Heads of a vocabulary that compute its logits by the tile, or all at once.
TILED = OF_TRL - {"reward", "cpo", "orpo"}
ALL_LOGITS = frozenset({"cpo", "orpo", "seq2seq"})
# The trainer's FORMER_NAMES of what is read here.
FORMER_NAMES = {
    "max_seq_length": "max_length",
    "torch_dtype": "dtype",
    "batch_size": "per_device_train_batch_size",
    "train_batch_size": "per_device_train_batch_size",
    "lora_rank": "lora_r",
    "use_lora": "use_peft",
}
# Tokens of a row where the method sets no limit.
_LENGTH, _BATCH = 1024, 8


@dataclass(frozen=True)
class Memory:
    """GPU memory of a training, in GiB, with the lines of its arithmetic.

    Attributes:
        total_gib: on one GPU alone.
        lines: how it comes about.
        divided_gib: what GPUs share among them, where the job shards its model; 0 with DDP, where
            each has a copy.
    """

    total_gib: float
    lines: tuple[str, ...]
    divided_gib: float = 0.0

    def on(self, gpus: int) -> float:
        """What each of so many GPUs holds."""
        return self.total_gib - self.divided_gib * (1 - 1 / max(gpus, 1))


@dataclass(frozen=True)
class Settings:
    """Hyperparameters, as the trainer reads them: by today's names, as values or as text."""

    given: Mapping[str, HyperparameterValue]

    @classmethod
    def of(cls, given: Mapping[str, HyperparameterValue]) -> Settings:
        former = {FORMER_NAMES.get(key, key): value for key, value in given.items()}
        return cls({**former, **given})

    def text(self, name: str) -> str:
        """As the container gets it; empty where neither the job nor the method says."""
        value: Any = self.given.get(name)
        if value is None and name != "method":
            value = default_of(self.method, name)
        return "" if value is None else str(value).strip().strip('"')

    @property
    def method(self) -> str:
        return self.text("method").lower()

    def number(self, name: str, default: float) -> float:
        try:
            return float(self.text(name))
        except ValueError:
            return default

    @property
    def length(self) -> float:
        """Tokens of a row: of an encoder-decoder, what it reads and what it writes."""
        sides = [self.number(name, 0) for name in ("max_source_length", "max_target_length")]
        return sum(sides) if all(sides) else self.number("max_length", _LENGTH)

    def is_on(self, name: str) -> bool:
        return _is_on(self.text(name))

    @property
    def sharded(self) -> str:
        """What GPUs share: `all`, `training` (ZeRO's second stage), or nothing (DDP)."""
        chosen = f"{self.text('parallelism')} {self.text('accelerate_config')}".lower()
        own = self.text("deepspeed").replace(" ", "").lower()
        if "fsdp" in chosen or "zero3" in chosen or self.is_on("fsdp") or "stage':3" in own:
            return "all"
        return "training" if "zero2" in chosen or own else ""


def memory(
    parameters: float,
    hyperparameters: Mapping[str, HyperparameterValue],
    others: Mapping[str, float | None] | None = None,
    size: Size | None = None,
) -> Memory:
    """What the training holds in GPU memory.

    Args:
        parameters: of the base model.
        hyperparameters: method, use_peft, load_in_4bit, load_in_8bit, dtype, optim, lora_r,
            per_device_train_batch_size, max_length (or both lengths of seq2seq), parallelism; as
            values or as text.
        others: parameters of each of the models beside it; None: not known, which a line says.
        size: its layers, where they are known.
    """
    settings = Settings.of(hyperparameters)
    sequences, _ = IN_MEMORY.get(settings.method, (1, 1))
    batch = settings.number("per_device_train_batch_size", _BATCH)
    length = settings.length
    parts = list(_held(parameters, settings, size))
    rows = f"{batch:g} rows" if sequences == 1 else f"{batch:g} rows of {sequences}"
    shape = (size and size.shape) or activations.typical(parameters)
    parts += _activations(settings, shape, _step(settings, batch * sequences * length, size), rows)
    for name, count in (others or {}).items():
        needs = (count or 0) * (HALF_PRECISION_BYTES + batch * length / 1024 * LOOKING_BYTES)
        said = "size unknown, so it is not counted"
        if count:
            said = f"{_short(count)} x {HALF_PRECISION_BYTES:g} bytes, and one layer's activations"
        parts.append((f"{name:<12} {said}", needs, ""))
    total = sum(needs for _, needs, _ in parts) / GIB
    shares = {"all": ("weights", "training"), "training": ("training",), "": ()}[settings.sharded]
    divided = sum(needs for _, needs, kind in parts if kind in shares) / GIB
    lines = [f"{text:<62} {needs / GIB:8.1f} GiB" for text, needs, _ in parts]
    if divided:
        lines.append(f"{'of that shared among the GPUs':<62} {divided:8.1f} GiB")
    return Memory(total, (*lines, f"{'together':<62} {total:8.1f} GiB"), divided)


def _step(settings: Settings, tokens: float, size: Size | None) -> Step:
    """How the trainer computes a step on a GPU."""
    peft = settings.is_on("use_peft")
    former = settings.given.get("gradient_checkpointing")
    asked = settings.given.get("activation_checkpointing", former)
    # The trainer's mixed_precision: bf16 or fp16, unless the job switches it off.
    off = str(settings.given.get("bf16", "")).lower() in {"false", "0", "no", "off"}
    mixed = settings.is_on("fp16") or not off
    halved = _weight_bytes(settings, peft, size)[0] < FULL_PRECISION_BYTES
    halved = halved and not _widens(settings)
    return Step(
        tokens=tokens,
        length=settings.length,
        recomputes=settings.method in OF_TRL if asked is None else _is_on(asked),
        rank=int(settings.number("lora_r", LORA_RANK)) if peft else 0,
        dropout=settings.number("lora_dropout", 0.0) > 0,
        stream=activations.HALF_PRECISION if halved else activations.FULL_PRECISION,
        computed=activations.HALF_PRECISION if mixed else activations.FULL_PRECISION,
        attention=settings.text("attn_implementation"),
    )


def _activations(
    settings: Settings, shape: Shape, step: Step, rows: str
) -> Iterator[tuple[str, float, str]]:
    """What a step holds for its backward pass, and the head's logits."""
    each = f"{activations.layer_bytes(shape, step) / 1e3:.0f} kB"
    how = f"{each}, recomputed" if step.recomputes else f"{shape.layers} layers x {each}"
    text = f"activations  {rows} x {step.length:g} tokens x {how}"
    yield text, activations.activation_bytes(shape, step), ""
    if settings.method in TILED:
        tile = min(step.tokens, activations.TILE_TOKENS)
        text = f"logits       {tile:g} tokens x {activations.TILE_WIDTH} at a time"
        yield text, activations.tile_bytes(shape, step), ""
    elif settings.method in ALL_LOGITS:
        share = settings.number("max_target_length", step.length) / step.length
        text = f"logits       {step.tokens * share:g} tokens x {shape.vocabulary}"
        yield text, activations.logit_bytes(shape, step, step.tokens * share), ""


def _held(
    parameters: float, settings: Settings, size: Size | None
) -> Iterator[tuple[str, float, str]]:
    """Weights, what training adds to them, and a frozen copy: line, bytes, and what shards it."""
    peft = settings.is_on("use_peft")
    width, kind = _weight_bytes(settings, peft, size)
    if width < HALF_PRECISION_BYTES:
        linear = sum(each.parameters for each in size.linears) if size else 0
        share = linear / size.parameters if size else LINEAR_SHARE
        width = share * width + (1 - share) * HALF_PRECISION_BYTES
    rank = settings.number("lora_r", LORA_RANK)
    share = parameters * LORA_SHARE * rank / LORA_RANK
    trained = parameters if not peft else float(size.adapters(int(rank))) if size else share
    # Adapters are weights beside the base model's own.
    own = _adapter_bytes(settings)
    each = (own if peft else width) * (GRADIENT + _optimizer(settings)) + (own if peft else 0)
    yield (
        f"weights      {_short(parameters)} x {width:.3g} bytes{kind}",
        parameters * width,
        "weights",
    )
    yield (
        f"training     {_short(trained)} x {each:g} bytes (gradients, {_optimizer_name(settings)})"
        + (" (LoRA)" if peft else ""),
        trained * each,
        "training",
    )
    if _has_reference(settings, peft):
        # The adapter is switched off for it; a model that trains in full needs a copy.
        yield (
            f"reference    {_short(parameters)} x {width:.3g} bytes",
            parameters * width,
            "weights",
        )


def _adapter_bytes(settings: Settings) -> float:
    """Bytes of an adapter's number: float32, but for what TRL trains of quantised models."""
    quantised = settings.is_on("load_in_4bit") or settings.is_on("load_in_8bit")
    halved = quantised and settings.method in OF_TRL and not _widens(settings)
    return HALF_PRECISION_BYTES if halved and not settings.is_on("fp16") else FULL_PRECISION_BYTES


def _widens(settings: Settings) -> bool:
    """Whether the trainer calls PEFT's prepare_model_for_kbit_training, and leaves it at that."""
    return settings.is_on("load_in_8bit") and settings.method in {"cpo", "orpo"}


def _weight_bytes(settings: Settings, peft: bool, size: Size | None) -> tuple[float, str]:
    """Bytes a parameter of the base model, as the trainer loads it on a GPU, and why."""
    if settings.is_on("load_in_4bit"):
        return FOUR_BIT_BYTES, " (4 bits)"
    if settings.is_on("load_in_8bit"):
        return EIGHT_BIT_BYTES, " (8 bits)"
    asked = settings.text("dtype")
    if asked == "auto" and size:
        asked = size.dtype.removeprefix("torch.") or asked
    if asked == "float16" and not peft:
        return FULL_PRECISION_BYTES, " (float16 is widened to be trained)"
    if asked in {"bfloat16", "float16", "auto"} or (peft and asked != "float32"):
        return HALF_PRECISION_BYTES, " (half precision)"
    return FULL_PRECISION_BYTES, ""


def _optimizer_name(settings: Settings) -> str:
    name = settings.text("optim")
    return "AdamW" if name in {"", "adamw_torch", "adamw_torch_fused"} else name


def _optimizer(settings: Settings) -> float:
    """Numbers of a parameter's own width that the optimizer keeps; AdamW's two where not known."""
    return _OPTIMIZERS.get(settings.text("optim"), ADAM)


def _has_reference(settings: Settings, peft: bool) -> bool:
    """Whether a frozen copy of the base model is in memory beside the one that is trained."""
    if peft:
        return False
    if settings.method in {"grpo", "rloo"}:
        return settings.number("beta", 0.0) > 0
    has = IN_MEMORY.get(settings.method, (1, 1))[1] > 1
    return has and not settings.is_on("precompute_ref_log_probs")


def _is_on(value: Any) -> bool:
    return str(value).strip().lower() in {"true", "1", "yes", "on"}


def _short(count: float) -> str:
    return f"{count / 1e9:.2f}e9" if count >= 1e9 else f"{count / 1e6:.1f}e6"
