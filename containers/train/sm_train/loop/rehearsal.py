"""Export, tried before the first step: what it would refuse at the end is said at the start.

The real parts run: configs, tokenizer, adapter and one weight are written to where the model will
be, and a fresh adapter is merged as the trained one will be.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from sm_train.errors import StoppedBySignalError, UserError, shorten
from sm_train.job import Job
from sm_train.log import print_line
from sm_train.loop.memory import is_out_of_memory
from sm_train.modelling.lora import is_quantised, quantised_files
from sm_train.modelling.stored_weights import stored_type
from sm_train.results.export import artefact_type
from sm_train.results.merging import check_merge, narrowed
from sm_train.results.reloading import describe, empty_model, model_class
from sm_train.results.staging import scratch


def rehearse_export(job: Job, trainer: Any, tokenizer: Any) -> None:
    """Raise UserError for what would keep the trained model from being written."""
    if not job.is_main:
        return
    model = trainer.model
    sharded = trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled
    merges = job.config.model.use_peft and job.config.job.export != "adapter"
    anew = merges and (sharded or is_quantised(model))
    try:
        dtype = artefact_type(job, model)
        with scratch(job.paths.model) as folder:
            tokenizer.save_pretrained(folder)
            if not trainer.is_deepspeed_enabled:
                _save_a_little(job, model, folder)
            _check_room(job, model, dtype, folder, copies=2 if anew else 1)
            if anew:
                _check_reloads(job, model, tokenizer, folder / "described", dtype)
    except (UserError, StoppedBySignalError):
        raise
    except OSError as error:
        raise UserError(
            f"the trained model could not be written: {error}",
            field="model directory",
            value=str(job.paths.model),
            fix="let the job write there, and free or add disk space",
        ) from error
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise UserError(
            f"could not be saved once it is trained: {type(error).__name__}: "
            f"{shorten(str(error), 300)}",
            field="model_name_or_path",
            value=job.model_source,
            fix="correct the base model's config and tokenizer files, or use another base model",
        ) from error
    _check_range(model, dtype)
    if merges and not anew:
        _check_merges(job, model, tokenizer)


def _save_a_little(job: Job, model: Any, folder: Path) -> None:
    """All that is written beside the weights, and the least of these."""
    from transformers import PreTrainedModel

    whole = model
    if job.config.model.use_peft:
        model.save_pretrained(folder / "adapter")
        whole = model.get_base_model()
    if is_quantised(whole):
        return
    if not isinstance(whole, PreTrainedModel):  # sentence-transformers has one as a part
        whole = next((p for p in whole.modules() if isinstance(p, PreTrainedModel)), None)
    if whole is not None:
        own = [named for named in whole.named_parameters() if "lora_" not in named[0]]
        whole.save_pretrained(folder, state_dict=dict([min(own, key=lambda n: n[1].numel())]))


def _check_room(job: Job, model: Any, dtype: Any, folder: Path, copies: int) -> None:
    """The disk of the model directory may be another than that of the checkpoints."""
    base = model.get_base_model() if job.config.model.use_peft else model
    if job.config.model.use_peft and job.config.job.export == "adapter":
        count = sum(p.numel() for p in model.parameters() if p.requires_grad)
    elif hasattr(base, "num_parameters"):
        count = base.num_parameters()  # which knows how many are packed in four bits
    else:
        count = sum(p.numel() for p in base.parameters())
    needed, free = count * dtype.itemsize * copies, shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"not enough disk for the trained model: about {needed / 1e9:.2f} GB are needed, "
            f"{free / 1e9:.2f} GB are free",
            field="model directory",
            value=str(job.paths.model),
            fix="raise VolumeSizeInGB, or set export to adapter with use_peft",
        )


def _check_reloads(job: Job, model: Any, tokenizer: Any, folder: Path, dtype: Any) -> None:
    """What the process that merges into the base model's files will find in them.

    Files that are quantised already hold nothing to merge into, whatever they were loaded as.
    """
    import torch
    from transformers import AutoConfig

    base, options, source = model.get_base_model(), job.config.model, job.model_source
    trust: dict[str, Any] = {"trust_remote_code": options.trust_remote_code}
    own = AutoConfig.from_pretrained(source, revision=options.model_revision, **trust)
    if getattr(own, "quantization_config", None):
        raise quantised_files(job.config.job.export)
    architecture = describe(base, tokenizer, folder)
    config = AutoConfig.from_pretrained(folder, **trust)
    kind = model_class(architecture, config, source, options.model_revision)
    _check_places(job, model, empty_model(kind, config))
    if dtype == torch.float16:
        _check_range_of_files(Path(source), dtype)


def _check_places(job: Job, model: Any, empty: Any) -> None:
    """Each layer that is adapted is there, of the same size, in the model that is read again."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    there = dict(empty.named_modules())
    sizes = ("in_features", "out_features")
    for name, layer in model.named_modules():
        if not isinstance(layer, BaseTunerLayer):
            continue
        place = there.get(name.removeprefix("base_model.model."))
        trained = [getattr(layer.get_base_layer(), size, None) for size in sizes]
        if place is None or [getattr(place, size, None) for size in sizes] != trained:
            raise UserError(
                f"the adapter of {name} has no place in a {type(empty).__name__} of the base "
                "model's files",
                field="export",
                value=job.config.job.export,
                fix="set export to adapter, or adapt other modules (lora_target_modules)",
            )


def _check_range_of_files(source: Path, dtype: Any) -> None:
    """Weights beyond float16, which four bits do not show, where they are not stored in it."""
    from safetensors import safe_open

    if stored_type(str(source)) == "float16":
        return
    for path in sorted(source.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - no mapping
                narrowed(file.get_tensor(name), dtype)


def _check_range(model: Any, dtype: Any) -> None:
    """Weights beyond float16 are known from the base model."""
    import torch

    if dtype == torch.float16:
        for weight in model.parameters():
            if weight.is_floating_point():
                narrowed(weight.detach(), dtype)


def _check_merges(job: Job, model: Any, tokenizer: Any) -> None:
    """PEFT cannot merge every kind of adapter into every kind of layer."""
    export, training = job.config.job.export, model.training
    model.eval()
    try:
        check_merge(model, tokenizer, export)
    except (UserError, StoppedBySignalError):
        raise
    except Exception as error:
        if is_out_of_memory(error):
            print_line("the merge of the adapter is not tried before training: memory is too small")
            return
        raise UserError(
            f"the adapter could not be merged: {type(error).__name__}: {shorten(str(error), 300)}",
            field="export",
            value=export,
            fix="set export to adapter, or adapt other modules (lora_target_modules)",
        ) from error
    finally:
        model.train(training)
