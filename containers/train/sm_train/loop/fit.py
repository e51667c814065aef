"""The part of a training run that is the same for every method: arguments, fitting, stopping."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sm_train.errors import StoppedBySignalError, UserError
from sm_train.job import TOKENISED, Job
from sm_train.log import print_line
from sm_train.loop.banner import print_model
from sm_train.loop.callbacks import (
    DivergenceCallback,
    LogCallback,
    ProgressCallback,
    SoundWeightsCallback,
    StopCallback,
    as_test_metrics,
    check_weights,
    log_first,
)
from sm_train.loop.checkpoints import last_complete, seal
from sm_train.loop.completions import show_completions
from sm_train.loop.data_sets import PatienceCallback, evaluate_apart, scores_of, sets_apart
from sm_train.loop.full_precision import in_full_precision
from sm_train.loop.held_out_kinds import score_by_rows
from sm_train.loop.memory import (
    RECOMPUTE,
    WHILE_TRAINING,
    halvings,
    is_out_of_memory,
    recomputes,
    smaller_batch,
)
from sm_train.loop.online import restore_order
from sm_train.loop.sampling import check_sampling, evaluate_in_order
from sm_train.loop.shards import exact_shards, shards_settled
from sm_train.loop.streams import stream_settings
from sm_train.loop.tracking import tracked_run
from sm_train.modelling.end_of_turn import show_bias
from sm_train.modelling.model import mixed_precision, widen_trained
from sm_train.settings.parallelism import parallel_settings
from sm_train.settings.reporters import reporters
from sm_train.settings.settings import load_training_config

TRAINING_LOG = "training_log.jsonl"


def training_arguments(job: Job, **method_settings: Any) -> Any:
    """The method's TRL or transformers config: our defaults, the method's, then the user's."""
    import torch

    validates = job.data.validation is not None
    strategy = "epoch" if validates else "no"
    on_gpu = torch.cuda.is_available()
    trl = job.config.method.training_config.startswith("trl")
    settings: dict[str, Any] = {
        "output_dir": str(job.paths.checkpoints),
        "eval_strategy": strategy,
        "save_strategy": "epoch",
        "save_total_limit": 2,
        "save_on_each_node": True,  # hosts share no disk, and each resumes from its own
        "load_best_model_at_end": validates,
        "logging_steps": 10,
        "logging_first_step": True,
        # Filtering would hide the very thing that DivergenceCallback looks for.
        "logging_nan_inf_filter": False,
        **mixed_precision(job.config.training),
        "dataloader_pin_memory": on_gpu,
        # Without it accelerate takes each worker of a CPU job for a job of its own.
        "use_cpu": not on_gpu,
        "disable_tqdm": True,
        "restore_callback_states_from_checkpoint": job.config.job.early_stopping_patience
        is not None,
        # Every parameter of a language model gets a gradient: no need to search for ones without.
        # But rows without images leave a vision tower without any, which TRL's trainers look after.
        **({"ddp_find_unused_parameters": False} if trl and not job.has_images else {}),
        "run_name": os.environ.get("TRAINING_JOB_NAME"),  # as trackers call the run
        **method_settings,
        **{key: value for key, value in job.config.training.items() if value is not None},
        "report_to": reporters(job.config.training.get("report_to"), os.environ),
    }
    if settings.pop("auto_find_batch_size", False):
        batch, accumulation = smaller_batch(
            int(settings.get("per_device_train_batch_size") or 8),
            int(settings.get("gradient_accumulation_steps") or 1),
            halvings(),
        )
        settings["per_device_train_batch_size"] = batch
        settings["gradient_accumulation_steps"] = accumulation
    if job.has_images and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        # The last batch of processes is filled up, and of a batch with images no row can be taken.
        settings["per_device_eval_batch_size"] = 1
    if job.data.stream is not None:
        settings.update(stream_settings(job.data.stream, settings))
    settings.update(_recomputation(job, settings, on_gpu))
    settings["save_strategy"] = _save_strategy(job, settings)
    if settings["save_strategy"] == "no" or _cannot_find_the_best(job, settings):
        settings["load_best_model_at_end"] = False
    if not settings["load_best_model_at_end"]:
        settings.pop("metric_for_best_model", None)
    os.environ.setdefault("TENSORBOARD_LOGGING_DIR", str(job.paths.output_data / "tensorboard"))
    return _built(job.config.method.training_config, settings)


def _recomputation(job: Job, settings: dict[str, Any], on_gpu: bool) -> dict[str, Any]:
    """Activations anew in the backward pass (TRL's default), and how processes share the model.

    It costs time and no result, so it happens only when asked for or where memory wants it: on a
    GPU that would not hold them, and after a try that ran out of memory.
    """
    former = settings.pop("gradient_checkpointing", None)  # the name that transformers gives up
    asked = settings.get("activation_checkpointing", former)
    trl = job.config.method.training_config.startswith("trl")
    wanted = trl and (recomputes() or (on_gpu and not _keeps_activations(job, settings)))
    recompute = wanted if asked is None else bool(asked)
    if trl or asked is not None:
        settings["activation_checkpointing"] = recompute
    if asked is None and recompute:
        os.environ[RECOMPUTE] = "1"  # for a second try: it is done already
    return parallel_settings(job.config, recompute)


def _keeps_activations(job: Job, settings: dict[str, Any]) -> bool:
    """Several hosts do not start again, where the estimate errs, so they do not try."""
    from sm_train.loop.activations import fit

    one_host = os.environ.get("WORLD_SIZE", "1") == os.environ.get("LOCAL_WORLD_SIZE", "1")
    return one_host and fit(job, settings)


def _save_strategy(job: Job, settings: dict[str, Any]) -> Any:
    """Checkpoints follow the evaluations unless the user says otherwise."""
    if "save_strategy" in job.config.given or settings["eval_strategy"] == "no":
        return settings["save_strategy"]
    if settings["eval_strategy"] == "steps" and "save_steps" not in settings:
        settings["save_steps"] = settings.get("eval_steps") or settings["logging_steps"]
    return settings["eval_strategy"]


def _cannot_find_the_best(job: Job, settings: dict[str, Any]) -> bool:
    """Whether checkpoints are not those that are evaluated, and nobody has asked for the best."""
    save, evaluate = settings["save_strategy"], settings["eval_strategy"]
    if "load_best_model_at_end" in job.config.given or not settings["load_best_model_at_end"]:
        return False
    stops_early = job.config.job.early_stopping_patience is not None  # by the best, which is missed
    if save in (evaluate, "best") or stops_early:
        return False
    if job.is_main:
        print_line(
            f"the weights will be the last ones, not the best: save_strategy is {save}, "
            f"eval_strategy {evaluate}"
        )
    return True


def _built(name: str, settings: dict[str, Any]) -> Any:
    try:
        made = load_training_config(name)(**settings)
    except (ValueError, TypeError) as error:
        raise UserError(f"the settings do not fit together: {error}", field=name) from error
    # With several GPUs in view of one process the trainer would take all of them, by DataParallel.
    made._n_gpu = min(made.n_gpu, 1)
    exact_shards(made)
    return made


def callbacks(job: Job) -> list[Any]:
    """Logs, progress, stop and divergence; early stopping where it was asked for."""
    resumed = last_complete(job.paths.checkpoints) is not None
    chosen: list[Any] = [
        LogCallback(job.paths.output_data / TRAINING_LOG, fresh=not resumed),
        ProgressCallback(),
        DivergenceCallback(),
    ]
    options = job.config.job
    if options.early_stopping_patience is not None:
        chosen.append(
            PatienceCallback(options.early_stopping_patience, options.early_stopping_threshold)
        )
    return chosen


def fit(job: Job, trainer: Any) -> None:
    """Train, from the last complete checkpoint if there is one; on SIGTERM leave one behind."""
    from transformers.trainer_callback import PrinterCallback

    from sm_train.loop.resuming import AlreadyTrainedError, ResumeCallback, agreed_checkpoint

    rows = trainer.train_dataset
    if rows is not None and job.data.stream is None and len(rows) == 0:
        raise UserError(
            "no row of the train channel is left: each prompt alone is as long",
            field="max_length",
            value=getattr(trainer.args, "max_length", None),
            fix="raise max_length, or shorten the prompts",
        )
    widen_trained(trainer.model, trainer.args)
    check_sampling(trainer)
    evaluate_in_order(trainer)
    score_by_rows(trainer, job.config.method)
    evaluate_apart(job, trainer)
    show_completions(trainer, job.paths.output_data)
    show_bias(trainer.model)
    trainer.remove_callback(PrinterCallback)  # it would print every event a second time
    log_first(trainer)
    checkpoint = agreed_checkpoint(job.paths.checkpoints, trainer.args.world_size)
    rows = job.paths.checkpoints / TOKENISED
    if trainer.args.local_process_index == 0 and rows.is_dir():
        seal(rows, trainer.args.process_index)
    if job.is_main:
        print_model(job, trainer)
    if checkpoint:
        restore_order(trainer, checkpoint)
        if job.is_main:
            print_line(f"resuming from {checkpoint.name}")
    resume = ResumeCallback(trainer, checkpoint)
    # In this order: sealed, then left; and looked at, once it is known that it will be saved.
    for callback in (resume, StopCallback(job.stop), SoundWeightsCallback()):
        trainer.add_callback(callback)
    job.stop.defer()
    try:
        with shards_settled(trainer):
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except AlreadyTrainedError:
        _end_training(trainer)
    except StoppedBySignalError:
        resume.rewind()
        save_before_leaving(trainer)
        raise
    except Exception as error:
        if is_out_of_memory(error):
            error.add_note(WHILE_TRAINING)
        raise


def _end_training(trainer: Any) -> None:
    """What the trainer does after its last step."""
    print_line(f"step {trainer.state.global_step} was the last one; nothing is left to train")
    if trainer.args.load_best_model_at_end and trainer.state.best_model_checkpoint:
        trainer._load_best_model()
    trainer.control = trainer.callback_handler.on_train_end(
        trainer.args, trainer.state, trainer.control
    )
    trainer.is_in_train = False


def save_before_leaving(trainer: Any) -> None:
    """A stop during an evaluation comes before that step is saved; other runs never save."""
    from sm_train.loop.resuming import finish_checkpoint, is_saved_everywhere

    step, folder = trainer.state.global_step, Path(trainer.args.output_dir)
    if step > 0 and not is_saved_everywhere(folder, step, trainer.args.world_size):
        check_weights(trainer.model, trainer.args, trainer.state)
        trainer._save_checkpoint(trainer.model, trial=None)
        finish_checkpoint(trainer)


def evaluate_test(
    trainer: Any, dataset: Any, sets: Mapping[str, Sequence[int]] | None = None
) -> dict[str, float]:
    """Metrics on the test channel as `test_…`, and the best validation metrics as `eval_…`.

    `sets`: the places of the rows of each of several data sets, which get scores of their own,
    such as `test_code_loss`.
    """
    from accelerate.utils import set_seed

    results = _best_validation(trainer.state)
    if dataset is not None:
        # Scores of sampled answers must not depend on how often the job was stopped before.
        set_seed(trainer.args.seed, device_specific=True)
        metrics = dict(trainer.evaluate(dataset, metric_key_prefix="test"))
        # TRL logs its own metrics (rewards, accuracies) as eval_…, whatever is evaluated.
        metrics |= as_test_metrics(trainer.state.log_history[-1])
        results |= {
            key: float(value)
            for key, value in metrics.items()
            if key.startswith("test_") and isinstance(value, int | float)
        }
        for name, places in (sets or {}).items():
            set_seed(trainer.args.seed, device_specific=True)
            results |= scores_of(trainer, dataset, places, f"test_{name}")
    return results


def _best_validation(state: Any) -> dict[str, float]:
    events = [event for event in state.log_history if "eval_loss" in event]
    best = [event for event in events if event["step"] == state.best_global_step]
    steps = {event["step"] for event in (best or events[-1:])[-1:]}
    return {
        key: float(value)
        for event in state.log_history
        if event["step"] in steps  # those of single data sets are events of their own
        for key, value in event.items()
        if key.startswith("eval_") and isinstance(value, int | float)
    }


def train_and_export(
    job: Job, trainer: Any, tokenizer: Any, test: Any, settle: Callable[[], None] | None = None
) -> None:
    """The end of every method: train, score on the test rows, write the model directory.

    `settle`: what the method still looks for with the trained weights, before the test rows.
    """
    from sm_train.loop.record import write_record
    from sm_train.loop.rehearsal import rehearse_export
    from sm_train.results.export import export

    if job.instead is not None:
        job.instead(trainer, tokenizer, test)
        return
    with tracked_run(job, trainer):
        rehearse_export(job, trainer, tokenizer)
        fit(job, trainer)
        try:
            job.stop.check("after the last step")
            with in_full_precision(trainer):
                if settle is not None:
                    settle()
                results = evaluate_test(trainer, test, sets_apart(job, "test"))
        except StoppedBySignalError:
            save_before_leaving(trainer)
            raise
        export(job, trainer, tokenizer, results)
        if job.is_main:
            write_record(job, trainer, results)


def tokenised_preferences(trainer: Any, rows: Any, tokenizer: Any) -> Any:
    """Test rows as TRL's experimental trainers prepare theirs; they have no way to add a split."""
    from trl.data_utils import maybe_apply_chat_template, maybe_extract_prompt

    if rows is None:
        return None
    rows = rows.map(maybe_extract_prompt)
    rows = rows.map(maybe_apply_chat_template, fn_kwargs={"processing_class": tokenizer})
    return rows.map(trainer.tokenize_row)
