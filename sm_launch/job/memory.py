"""The GPU memory of a training, with the lines of its arithmetic.

It is a rule of thumb: weights, gradients and optimizer are exact, activations are not. What a
setting is where job.yaml does not say it, the schema of the method does: the trainer's own default.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sm_launch.job.hyperparameters import default_of
from sm_launch.job.matrices import Size
from sm_launch.job.training import HyperparameterValue

GIB = 2.0**30
# Activations with checkpointing, in bytes a parameter and row of 1024 tokens; from the usual
# 34·s·h bytes a layer against 12·h² parameters, for h around 2,000 to 4,000.
ACTIVATION_BYTES = 0.35
# The same of a model that only looks: one layer's at a time.
LOOKING_BYTES = 0.03
# LoRA of rank 16 on every linear layer adds about so many of the base model's parameters, where its
# layers are not known.
LORA_SHARE, LORA_RANK = 0.01, 16
FULL_PRECISION_BYTES, HALF_PRECISION_BYTES = 4.0, 2.0
# Quantised weights with their scales, and what stays in half precision (embeddings, head).
EIGHT_BIT_BYTES, FOUR_BIT_BYTES = 1.1, 0.55
# Numbers a trained parameter beside itself: its gradient, and what the optimizer keeps.
GRADIENT, ADAM = 1.0, 2.0
_OPTIMIZERS = {"adafactor": 0.1, "sgd": 0.0, "lion": 1.0, "adamw_8bit": 0.5, "adamw_bnb_8bit": 0.5,
               "paged_adamw_8bit": 0.5, "adagrad": 1.0, "rmsprop": 1.0}  # fmt: skip
# Sequences of a row, and models that hold weights beside adapters: the trainer's Method.in_memory.
IN_MEMORY = {"sft": (1, 1), "reward": (2, 1), "dpo": (2, 2), "kto": (2, 2), "orpo": (2, 1),
             "cpo": (2, 1)}  # fmt: skip
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
        return self.text(name).lower() in {"true", "1", "yes", "on"}

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
    passed = size.passed if size else parameters
    rows = f"{batch:g} rows" if sequences == 1 else f"{batch:g} rows of {sequences}"
    parts.append(
        (f"activations  {_short(passed)} x {rows} x {length:g}/1024 x {ACTIVATION_BYTES:g} bytes",
         passed * batch * sequences * length / 1024 * ACTIVATION_BYTES, "")
    )  # fmt: skip
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


def _held(
    parameters: float, settings: Settings, size: Size | None
) -> Iterator[tuple[str, float, str]]:
    """Weights, what training adds to them, and a frozen copy: line, bytes, and what shards it."""
    peft = settings.is_on("use_peft")
    width, kind = _weight_bytes(settings, peft, size)
    rank = settings.number("lora_r", LORA_RANK)
    share = parameters * LORA_SHARE * rank / LORA_RANK
    trained = parameters if not peft else float(size.adapters(int(rank))) if size else share
    # Adapters are trained in float32, and are weights beside the base model's own.
    each = (FULL_PRECISION_BYTES if peft else width) * (GRADIENT + _optimizer(settings))
    each += FULL_PRECISION_BYTES if peft else 0
    yield (
        f"weights      {_short(parameters)} x {width:g} bytes{kind}",
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
        yield f"reference    {_short(parameters)} x {width:g} bytes", parameters * width, "weights"


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


def _short(count: float) -> str:
    return f"{count / 1e9:.2f}e9" if count >= 1e9 else f"{count / 1e6:.1f}e6"
