"""The part of a training run that is the same for every method: arguments, fitting, stopping."""

from __future__ import annotations

import os
from typing import Any

from sm_train.callbacks import (
    DivergenceCallback,
    LogCallback,
    ProgressCallback,
    StopCallback,
    as_test_metrics,
    print_line,
)
from sm_train.checkpoints import last_complete, remove_partial
from sm_train.errors import StoppedBySignalError, UserError
from sm_train.job import Job
from sm_train.model import has_bf16
from sm_train.schema import load_training_config

TRAINING_LOG = "training_log.jsonl"


def training_arguments(job: Job, **method_settings: Any) -> Any:
    """The method's TRL or transformers config: our defaults, the method's, then the user's."""
    import torch

    validates = job.data.validation is not None
    strategy = "epoch" if validates else "no"
    settings: dict[str, Any] = {
        "output_dir": str(job.paths.checkpoints),
        "eval_strategy": strategy,
        "save_strategy": "epoch",
        "save_total_limit": 2,
        "load_best_model_at_end": validates,
        "logging_steps": 10,
        "logging_first_step": True,
        # Filtering would hide the very thing that DivergenceCallback looks for.
        "logging_nan_inf_filter": False,
        "bf16": has_bf16() and "fp16" not in job.config.given,
        "dataloader_pin_memory": torch.cuda.is_available(),
        # Without it accelerate takes each worker of a CPU job for a job of its own.
        "use_cpu": not torch.cuda.is_available(),
        "disable_tqdm": True,
        "report_to": ["tensorboard"],
        **method_settings,
        **{key: value for key, value in job.config.training.items() if value is not None},
    }
    if not torch.cuda.is_available() and not _chose_recomputation(job):
        settings.update(_without_recomputation(job))
    settings["save_strategy"] = _save_strategy(job, settings)
    if settings["save_strategy"] == "no":
        settings["load_best_model_at_end"] = False
    if not settings["load_best_model_at_end"]:
        settings.pop("metric_for_best_model", None)
    os.environ.setdefault("TENSORBOARD_LOGGING_DIR", str(job.paths.output_data / "tensorboard"))
    return _built(job.config.method.training_config, settings)


def _chose_recomputation(job: Job) -> bool:
    return bool(job.config.given & {"gradient_checkpointing", "activation_checkpointing"})


def _without_recomputation(job: Job) -> dict[str, bool]:
    """TRL recomputes activations by default; on a CPU memory is plenty and time is not."""
    trl = job.config.method.training_config.startswith("trl")
    return {"gradient_checkpointing": False} if trl else {}


def _save_strategy(job: Job, settings: dict[str, Any]) -> Any:
    """Checkpoints follow the evaluations unless the user says otherwise."""
    if "save_strategy" in job.config.given or settings["eval_strategy"] == "no":
        return settings["save_strategy"]
    if settings["eval_strategy"] == "steps" and "save_steps" not in settings:
        settings["save_steps"] = settings.get("eval_steps") or settings["logging_steps"]
    return settings["eval_strategy"]


def _built(name: str, settings: dict[str, Any]) -> Any:
    try:
        return load_training_config(name)(**settings)
    except (ValueError, TypeError) as error:
        raise UserError(f"the settings do not fit together: {error}", field=name) from error


def callbacks(job: Job) -> list[Any]:
    """Logs, progress, stop and divergence; early stopping where it was asked for."""
    from transformers import EarlyStoppingCallback

    resumed = last_complete(job.paths.checkpoints) is not None
    chosen: list[Any] = [
        LogCallback(job.paths.output_data / TRAINING_LOG, fresh=not resumed),
        ProgressCallback(),
        StopCallback(job.stop),
        DivergenceCallback(),
    ]
    options = job.config.job
    if options.early_stopping_patience is not None:
        chosen.append(
            EarlyStoppingCallback(options.early_stopping_patience, options.early_stopping_threshold)
        )
    return chosen


def fit(job: Job, trainer: Any) -> None:
    """Train, from the last complete checkpoint if there is one; on SIGTERM leave one behind."""
    from transformers.trainer_callback import PrinterCallback

    if trainer.train_dataset is not None and len(trainer.train_dataset) == 0:
        raise UserError(
            "no row of the train channel is left: each prompt alone is as long",
            field="max_length",
            value=getattr(trainer.args, "max_length", None),
            fix="raise max_length, or shorten the prompts",
        )
    trainer.remove_callback(PrinterCallback)  # it would print every event a second time
    removed = remove_partial(job.paths.checkpoints) if job.is_main else []
    if removed:
        print_line(f"ignored partial checkpoints: {', '.join(removed)}")
    checkpoint = last_complete(job.paths.checkpoints)
    if checkpoint:
        print_line(f"resuming from {checkpoint.name}")
    job.stop.defer()
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except StoppedBySignalError:
        _save_before_leaving(trainer)
        raise
    job.stop.check("after the last step; the checkpoint is complete")


def _save_before_leaving(trainer: Any) -> None:
    """An evaluation that was cut short comes before the save of its step: save that step now."""
    stopped = next(c for c in trainer.callback_handler.callbacks if isinstance(c, StopCallback))
    if stopped.saved_step != trainer.state.global_step > 0:
        trainer._save_checkpoint(trainer.model, trial=None)


def evaluate_test(trainer: Any, dataset: Any) -> dict[str, float]:
    """Metrics on the test channel as `test_…`, and the best validation metrics as `eval_…`."""
    results = _best_validation(trainer.state)
    if dataset is not None:
        metrics = dict(trainer.evaluate(dataset, metric_key_prefix="test"))
        # TRL logs its own metrics (rewards, accuracies) as eval_…, whatever is evaluated.
        metrics |= as_test_metrics(trainer.state.log_history[-1])
        results |= {
            key: float(value)
            for key, value in metrics.items()
            if key.startswith("test_") and isinstance(value, int | float)
        }
    return results


def _best_validation(state: Any) -> dict[str, float]:
    events = [event for event in state.log_history if "eval_loss" in event]
    best = [event for event in events if event["step"] == state.best_global_step]
    chosen = (best or events[-1:])[-1:]
    return {
        key: float(value)
        for event in chosen
        for key, value in event.items()
        if key.startswith("eval_") and isinstance(value, int | float)
    }


def finish(job: Job, trainer: Any, tokenizer: Any, test: Any) -> None:
    """The end of every method: train, score on the test rows, write the model directory."""
    from sm_train.export import export

    fit(job, trainer)
    export(job, trainer, tokenizer, evaluate_test(trainer, test))


def tokenised_preferences(trainer: Any, rows: Any, tokenizer: Any) -> Any:
    """Test rows as TRL's experimental trainers prepare theirs; they have no way to add a split."""
    from trl.data_utils import maybe_apply_chat_template, maybe_extract_prompt

    if rows is None:
        return None
    rows = rows.map(maybe_extract_prompt)
    rows = rows.map(maybe_apply_chat_template, fn_kwargs={"processing_class": tokenizer})
    return rows.map(trainer.tokenize_row)
