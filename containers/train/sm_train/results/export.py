"""The artefact: a plain Hugging Face model directory with a model card and the test results."""

from __future__ import annotations

import copy
import json
import math
import os
import shutil
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from sm_train.errors import UserError
from sm_train.job import Job
from sm_train.log import print_line
from sm_train.modelling.generation_prompt import settle_generation_prompt
from sm_train.modelling.images import keep_processor
from sm_train.modelling.lora import LABELLED_TASKS, is_quantised, tied_names
from sm_train.modelling.stored_weights import named_type, stored_type
from sm_train.results.asking import identity_of_test
from sm_train.results.merging import cast, merge, narrowed
from sm_train.results.metrics import finite_or_none, of_one_label
from sm_train.results.reloading import SHARD_SIZE, merge_anew
from sm_train.results.report import write_report
from sm_train.results.samples import last_samples
from sm_train.results.staging import staged
from sm_train.rows import SPLITS
from sm_train.settings.settings import Method

EVAL_RESULTS = "eval_results.json"
SUMMARY = "training_summary.json"
SPEEDS = ("runtime", "per_second")


def export(job: Job, trainer: Any, tokenizer: Any, results: dict[str, float]) -> None:
    """Write the model directory from the trainer's (best) model. Only rank 0 writes."""
    sharded = trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled
    weights = trainer.accelerator.get_state_dict(trainer.model_wrapped) if sharded else None
    if not job.is_main:
        return
    # Without its autocast: what is compared and written is the weights' own, not rounded by it.
    model = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
    summary = _summary(job, trainer, results)
    settle_generation_prompt(job, tokenizer)
    with staged(job.paths.model) as folder:
        _save_weights(job, model, tokenizer, folder, weights)
        tokenizer.save_pretrained(folder)
        keep_processor(job, model, folder)
        identity = identity_of_test(job.paths, job.data)
        write_json(folder / EVAL_RESULTS, {**results, **identity})
        card = model_card(job, results, summary)
        (folder / "README.md").write_text(card, encoding="utf-8")
    print_line(f"model written to {job.paths.model}")
    write_json(job.paths.output_data / SUMMARY, summary)
    title = f"{job.config.method.name}, {trainer.state.global_step} steps"
    write_report(job.paths.output_data, trainer.state.log_history, title)


def _save_weights(job: Job, model: Any, tokenizer: Any, target: Path, weights: Any) -> None:
    """`weights`: the whole state, where the model itself holds only this process's shards."""
    options, kind = job.config.model, job.config.job.export
    dtype = artefact_type(job, model)
    if not options.use_peft:
        _save_whole(model, target, weights, dtype)
        return
    adapter = target if kind == "adapter" else target / "adapter"
    model.save_pretrained(adapter, state_dict=weights)
    _name_labels(model, adapter)
    if kind == "adapter":
        return
    try:
        if weights is not None or is_quantised(model):
            merge_anew(job, model, tokenizer, adapter, dtype)
        else:
            merged = _merge(job, model, tokenizer, dtype)
            merged.save_pretrained(target, max_shard_size=SHARD_SIZE)
    except UserError:
        kept = job.paths.output_data / "adapter"
        shutil.copytree(adapter, kept, dirs_exist_ok=True)
        print_line(f"the adapter, which could not be merged, is in {kept}")
        raise
    if kind == "merged":
        shutil.rmtree(adapter)


def artefact_type(job: Job, model: Any) -> Any:
    """The base model's own type, unless `dtype` names another: training may need a wider one."""
    import torch

    asked = job.config.model.dtype
    if asked not in (None, "auto"):
        return getattr(torch, asked)
    stored = stored_type(job.model_source) or _described_type(job)
    return getattr(torch, stored) if stored else next(model.parameters()).dtype


def _described_type(job: Job) -> str | None:
    """The type that config.json names, for a model whose files do not lie in a directory here."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(
        job.model_source,
        revision=job.config.model.model_revision,
        trust_remote_code=job.config.model.trust_remote_code,
    )
    return named_type(config)


def _save_whole(model: Any, target: Path, weights: Any, dtype: Any) -> None:
    """A model that was trained in full. `weights`: see `_save_weights`."""
    if weights is None:
        cast(model, dtype)
        _plain(model).save_pretrained(target, **_shards(model))
        return
    for name in tied_names(model):
        weights.pop(name, None)  # gathered apart from the one that it shares its weights with
    for name, value in weights.items():
        if value.is_floating_point():
            weights[name] = narrowed(value, dtype)
    _plain(model).save_pretrained(target, state_dict=weights, **_shards(model))
    path = target / "config.json"
    described = json.loads(path.read_text(encoding="utf-8"))
    described["dtype"] = str(dtype).removeprefix("torch.")  # not that of the shards
    path.write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")


def _shards(model: Any) -> dict[str, str]:
    """How large a file of weights may be; sentence-transformers does not ask."""
    from transformers import PreTrainedModel

    return {"max_shard_size": SHARD_SIZE} if isinstance(model, PreTrainedModel) else {}


def _name_labels(model: Any, adapter: Path) -> None:
    """Beside an adapter what PEFT does not write: in config.json labels and how the task is asked;
    of what generates its settings, such as the end of turn that was taught.
    """
    base = model.get_base_model()
    task = model.active_peft_config.task_type
    if task in ("SEQ_2_SEQ_LM", "CAUSAL_LM"):
        base.generation_config.save_pretrained(adapter)
    if task not in (*LABELLED_TASKS, "SEQ_2_SEQ_LM"):
        return
    config = copy.deepcopy(base.config)
    # FSDP2 makes a class of its own from the model's.
    config.architectures = [type(base).__name__.removeprefix("FSDP")]
    config.save_pretrained(adapter)


def _merge(job: Job, model: Any, tokenizer: Any, dtype: Any = None) -> Any:
    """The model with its adapter in its weights; `dtype`: theirs, or None to leave it."""
    loaded = next(model.get_base_model().parameters()).dtype
    return _plain(merge(model, tokenizer, dtype or loaded, job.config.job.export))


def _plain(model: Any) -> Any:
    """Training switches the cache off; generation after it wants it."""
    if getattr(model.config, "use_cache", None) is False:
        model.config.use_cache = True
    return model


def _summary(job: Job, trainer: Any, results: dict[str, float]) -> dict[str, Any]:
    state = trainer.state
    rows: dict[str, int | None] = {split: len(job.data.split(split) or ()) for split in SPLITS}
    if job.data.stream is not None:
        rows["train"] = job.data.stream.rows  # None where nobody counted
    return {
        "method": job.config.method.name,
        "base_model": job.model_source,
        "rows": rows,
        "rejected_rows": job.data.rejected,
        "learnt": {split: asdict(counts) for split, counts in job.learning.items()},
        "steps": state.global_step,
        "batch": {
            "per_device": trainer.args.per_device_train_batch_size,
            "accumulation": trainer.args.gradient_accumulation_steps,
            "processes": trainer.args.world_size,
        },
        "epochs": state.epoch,
        "best_step": state.best_global_step,
        "seconds": round(time.time() - job.started, 2),
        "results": results,
        "hyperparameters": {k: str(v) for k, v in sorted(job.config.training.items())},
    }


def model_card(job: Job, results: dict[str, float], summary: dict[str, Any]) -> str:
    """README.md with the metadata that the Hub and people look for."""
    method = job.config.method
    base = job.config.model.model_name_or_path
    training = sorted(job.config.training.items())
    settings = [f"| {key} | {value} |" for key, value in training if key in job.config.given]
    numbers = [f"| {key} | {value:.4f} |" for key, value in sorted(results.items())]
    counted = summary["rows"].items()
    rows = ", ".join(f"{'a stream of' if n is None else n} {split}" for split, n in counted)
    body = [
        f"# Fine-tuned with {method.name}",
        "",
        f"Base model: `{base or 'from the model channel'}`. Rows: {rows}. "
        f"{summary['steps']} steps in {summary['seconds']:.0f} s.",
        "",
        "## Results",
        "",
        *(["| metric | value |", "|---|---|", *numbers] if numbers else ["No evaluation was run."]),
        "",
        *last_samples(job.paths.output_data),
        "## Settings",
        "",
        *(["| setting | value |", "|---|---|", *settings] if settings else ["All defaults."]),
        "",
    ]
    called = os.environ.get("TRAINING_JOB_NAME") or job.paths.model.name
    if job.has_images:
        method = replace(method, pipeline_tag="image-text-to-text")
    metadata = card_metadata(method, base, called, results)
    return "\n".join(["---", metadata, "---", "", *body])


def card_metadata(
    method: Method[Any], base: str | None, name: str, results: dict[str, float]
) -> str:
    """The card's front matter, with the measures of the test set as the Hub's model-index.

    Args:
        method: of the training.
        base: a Hub id, or a path, which says nothing elsewhere and is left out.
        name: of the model in the index.
        results: those called test_… are of the test rows; speeds, single labels and what is no
            number stay out.
    """
    from huggingface_hub import EvalResult, ModelCardData

    measured = [
        EvalResult(
            task_type=method.pipeline_tag,
            dataset_type="test",
            dataset_name="the job's test rows",
            dataset_split="test",
            metric_type=key.removeprefix("test_"),
            metric_value=value,
        )
        for key, value in sorted(results.items())
        if key.startswith("test_")
        and not key.endswith(SPEEDS)
        and math.isfinite(value)
        and not of_one_label(key)
    ]
    sentences = method.training_config.startswith("sentence_transformers:")
    data = ModelCardData(
        library_name="sentence-transformers" if sentences else "transformers",
        pipeline_tag=method.pipeline_tag,
        base_model=base if base and not Path(base).is_absolute() else None,
        tags=[method.name],
        **({"model_name": name, "eval_results": measured} if measured else {}),
    )
    text: str = data.to_yaml()
    return text.strip()


def write_json(path: Path, value: dict[str, Any]) -> None:
    """An object, in which what is no number is null."""
    path.parent.mkdir(parents=True, exist_ok=True)
    clean = {key: finite_or_none(item) for key, item in value.items()}
    path.write_text(json.dumps(clean, indent=2, default=str) + "\n", encoding="utf-8")
