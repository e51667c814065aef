"""The first lines of a job's log: what runs, on what, with which data."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from sm_train.job import Job
from sm_train.log import print_line
from sm_train.loop.streams import SHUFFLE_BUFFER
from sm_train.modelling.model import choose_attention

_STACK = ("torch", "transformers", "trl", "peft", "datasets", "accelerate")
_OPTIONAL = ("flash_attn", "bitsandbytes", "deepspeed", "liger-kernel")


def print_banner(job: Job) -> None:
    """Versions, devices, attention and the sizes of the splits. Imports torch."""
    if not job.is_main:
        return
    import torch

    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    versions = {name: _version(name) for name in (*_STACK, *_OPTIONAL)}
    stack = " ".join(f"{name}={number}" for name, number in versions.items() if number)
    print_line(f"versions: python={platform.python_version()} {stack}")
    print_line(f"devices: {', '.join(devices) or f'CPU, {torch.get_num_threads()} threads'}")
    print_line(f"method: {job.config.method.name}; base model: {job.model_source}")


def print_model(job: Job, trainer: Any) -> None:
    """Parameters, type and attention of the model as it will train, and what it trains on."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    parameters = [(p.numel(), p.requires_grad) for p in model.parameters()]
    total = sum(count for count, _ in parameters)
    trained = sum(count for count, trains in parameters if trains)
    attention = getattr(model.config, "_attn_implementation", None) or "the model's own"
    chosen = choose_attention(job.config.model)
    why = chosen.why if chosen.name in (None, attention) else f"the model has no {chosen.name}"
    kind = str(next(model.parameters()).dtype).removeprefix("torch.")
    print_line(
        f"model: {type(model).__name__}, {total / 1e6:.1f}M parameters, {trained / 1e6:.2f}M of "
        f"them trained ({100 * trained / max(total, 1):.2f}%), weights {kind}, computed in "
        f"{_computed_in(trainer.args, kind)}"
    )
    print_line(f"attention: {attention} ({why})")
    print_line(f"training data: {amount(job, trainer)}")
    print_line(f"batch: {batch(trainer.args, trainer.train_dataset)}")


def batch(arguments: Any, dataset: Any) -> str:
    """How many examples an optimizer step learns from, and how they lie in it."""
    processes = arguments.world_size
    accumulated = arguments.gradient_accumulation_steps
    sequences = arguments.per_device_train_batch_size * accumulated * processes
    parts = (
        f"{arguments.per_device_train_batch_size} a process x {accumulated} accumulated x "
        f"{processes} processes"
    )
    if getattr(arguments, "packing", False):
        columns = getattr(dataset, "column_names", None) or ()
        counted = "seq_lengths" in columns and hasattr(dataset, "__len__")
        packed = sum(map(len, dataset["seq_lengths"])) if counted else 0
        each = packed / max(len(dataset), 1) if counted else 0
        about = f", each of {each:.1f} examples: {sequences * each:.0f} examples a step"
        return f"{sequences} packed sequences a step ({parts}){about if packed else ''}"
    lie = "padded"
    if getattr(arguments, "padding_free", False):
        lie = "behind one another in one sequence, without padding"
    elif str(arguments.train_sampling_strategy).endswith("group_by_length"):
        lie = "of like length, padded"
    return f"{sequences} examples a step ({parts}), {lie}"


def _computed_in(arguments: Any, weights: str) -> str:
    return "bfloat16" if arguments.bf16 else "float16" if arguments.fp16 else weights


def amount(job: Job, trainer: Any) -> str:
    """Sequences and tokens, where they are known before training."""
    dataset, stream = trainer.train_dataset, job.data.stream
    if stream is not None:
        each = f"a stream of {stream.rows} rows a pass" if stream.rows else "a stream"
        size = job.config.job.shuffle_buffer_size
        size = SHUFFLE_BUFFER if size is None else size
        order = f"shuffled in a buffer of {size} rows" if size else "in the order of the files"
        return f"{each}, {order}, {trainer.args.max_steps} steps"
    rows = f"{len(dataset)} sequences"
    if "input_ids" not in (getattr(dataset, "column_names", None) or ()):
        return rows
    from sm_train.loop.sampling import token_counts

    return f"{rows}, {sum(token_counts(dataset))} tokens an epoch"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
