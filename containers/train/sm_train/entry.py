"""What SAGEMAKER_TRAINING_MODULE names: the job's files in, a model or a failure file out.

The toolkit calls `main` in its own process. Everything that a user can get wrong is checked before
torch is imported: that takes milliseconds, the import seconds.
"""

from __future__ import annotations

import errno
import gc
import os
import sys
import time
import traceback
from typing import NoReturn

from sm_train.config import load_config
from sm_train.contract import (
    EXIT_STOPPED,
    Cluster,
    Paths,
    check_input_modes,
    read_cluster,
)
from sm_train.data.channels import load_data
from sm_train.errors import StoppedBySignalError, UserError, WorkerFailedError
from sm_train.job import TOKENISED, Job
from sm_train.launch import is_worker, launch_workers, process_count
from sm_train.loop.checkpoints import (
    check_disk,
    discard_damaged,
    discard_unsealed_rows,
    needed_bytes,
    remove_partial,
)
from sm_train.loop.fingerprint import settle
from sm_train.loop.memory import (
    follow_note,
    is_out_of_memory,
    note_for_launcher,
    out_of_memory_message,
    retry,
    set_mark,
    start_again,
)
from sm_train.loop.tracking import end_left_open
from sm_train.methods import train
from sm_train.modelling.base_model import check_takes_images, resolve_base_model
from sm_train.modelling.stored_weights import stored_weights
from sm_train.platform.devices import check_devices, check_torch_sees_gpus, gpu_count
from sm_train.platform.failure import give_back, reserve, write_failure
from sm_train.platform.stopping import StopRequest, leave
from sm_train.platform.user_script import ScriptFailedError, has_user_script, run_user_script
from sm_train.redaction import redact
from sm_train.results.chaining import whole_model
from sm_train.results.staging import discard_half_written
from sm_train.rows import Data
from sm_train.settings.parallelism import check_hardware
from sm_train.settings.settings import Config
from sm_train.settings.tracking_server import check_server

EXIT_FAILED = 1
_NO_PROBABILITIES = "probability tensor contains either"  # torch, sampling from a broken model
_WIDTHS = {"float32": 4, "bfloat16": 2, "float16": 2}  # bytes


def main() -> None:
    """Run the job that the base directory describes; exits non-zero unless it succeeded."""
    started = time.time()
    # torch and transformers make millions of objects that stay: looking through them for garbage
    # as often as Python does by itself is a sixth of the time that their import takes.
    gc.set_threshold(100_000, 50, 100)
    paths = Paths.from_environment()
    stop = StopRequest()
    try:
        if has_user_script(paths):
            run_user_script()
            give_back(paths)
            return
        stop.install()
        if not is_worker():
            # An earlier run's, where a directory is used again.
            paths.failure.unlink(missing_ok=True)
            reserve(paths)
        run(paths, stop, started)
        stop.ignore()
        if not is_worker():
            give_back(paths)
    except StoppedBySignalError as stopped:
        if not is_worker() and paths.failure.exists():  # a worker failed while it was stopping
            _leave(paths, EXIT_FAILED, "a training process failed while stopping")
        _leave(paths, EXIT_STOPPED, str(stopped))
    except ScriptFailedError as error:
        _leave(paths, error.code, str(error))
    except (UserError, WorkerFailedError) as error:
        _leave(paths, EXIT_FAILED, str(error))
    except Exception as error:
        if is_disk_full(error):
            remove_partial(paths.checkpoints)  # the next run would take it for a good one
        _leave(paths, EXIT_FAILED, describe_crash(error), traceback.format_exc())


def checked_job(paths: Paths, stop: StopRequest, started: float) -> Job:
    """The job of a base directory: settings, data and base model, all that needs no torch."""
    check_input_modes(paths)
    config = load_config(paths)
    os.environ.update(config.environment)
    for warning in config.warnings:
        _say(f"warning: {warning}")
    base = resolve_base_model(paths, config)
    data = load_data(paths, config.method.reads_as(config, base.origin))
    _say_what_was_read(data)
    if data.has_images:
        check_takes_images(base.source)
    source = whole_model(paths, base, config)
    return Job(paths, config, data, source, stop, started, model_origin=base.origin)


def run(paths: Paths, stop: StopRequest, started: float) -> None:
    """Check everything, then train here or in worker processes."""
    cluster = read_cluster(paths)
    gpus = gpu_count()
    config = load_config(paths)
    check_devices(config, cluster, gpus)
    os.environ.update(config.environment)
    if not is_worker():
        check_server(config)
    job = checked_job(paths, stop, started)
    source = job.model_source
    check_hardware(config, gpus)
    if not is_worker():
        _discard_what_is_damaged(paths)
        settle(paths, config, job.model_origin)
        check_disk(paths, _disk_need(config, source))
        processes = process_count(config)
        if processes * len(cluster.hosts) > 1:
            _launch(paths, config, cluster, processes, stop)
            return
    from sm_train.log import quiet_libraries
    from sm_train.loop.banner import print_banner

    quiet_libraries()
    check_torch_sees_gpus(config, cluster, gpus)
    print_banner(job)
    try:
        train(job)
    except Exception as error:
        chosen = retry(config, error)
        if chosen is None:
            raise
        sys.stderr.write(f"out of memory ({error}); trying again {chosen.said}\n")
        if is_worker():
            note_for_launcher(chosen)
            leave(EXIT_FAILED)
        start_again(chosen)


def _discard_what_is_damaged(paths: Paths) -> None:
    discard_half_written(paths.model)
    discard_unsealed_rows(paths.checkpoints / TOKENISED)
    damaged = discard_damaged(paths.checkpoints)
    if damaged:
        _say(f"ignored partial checkpoints: {'; '.join(damaged)}")


def _launch(
    paths: Paths, config: Config, cluster: Cluster, processes: int, stop: StopRequest
) -> None:
    """Worker processes; once more, with what takes less, when their memory did not suffice."""
    mark = paths.failure.with_name("out_of_memory")
    mark.parent.mkdir(parents=True, exist_ok=True)
    while True:
        set_mark(mark)
        try:
            launch_workers(cluster, processes, stop)
            return
        except WorkerFailedError:
            if len(cluster.hosts) > 1 or not follow_note(mark):
                raise
            paths.failure.unlink(missing_ok=True)  # the other workers' view of it


def _disk_need(config: Config, source: str) -> int:
    """Of a local base model: trained in full its weights grow to float32 unless dtype is given."""
    model = config.model
    parameters, stored = stored_weights(source)
    if not config.method.trains:
        return stored
    asked = _WIDTHS.get(model.dtype or ("auto" if model.use_peft else "float32"))
    return needed_bytes(
        parameters,
        asked or stored / max(parameters, 1),
        lora=model.use_peft,
        checkpoints=int(config.training.get("save_total_limit") or 2),
        merged=config.job.export != "adapter",
    )


def _say_what_was_read(data: Data) -> None:
    for note in data.notes:
        _say(note)
    for split in ("train", "validation", "test"):
        rows = data.split(split)
        if split == "train" and data.stream is not None:
            continue  # its note says more
        if rows or (rows is not None and split != "train"):
            bad = data.rejected.get(split, 0)
            kept = f", {bad} bad ones set aside in output/data/rejected.jsonl" if bad else ""
            _say(f"channel {split}: {len(rows)} rows{kept}")


def describe_crash(error: BaseException) -> str:
    """The cause first, then where: FailureReason shows only the beginning."""
    if is_out_of_memory(error):
        return out_of_memory_message(error)
    if is_disk_full(error):
        return (
            f"the disk is full: {error}. The last complete checkpoint is intact. "
            "Fix: raise VolumeSizeInGB or lower save_total_limit."
        )
    if _NO_PROBABILITIES in str(error):
        return (
            f"training diverged: {error}. The last checkpoint is intact. Fix: lower learning_rate, "
            "raise warmup_steps or beta, or look for rewards that are no numbers."
        )
    frames = traceback.extract_tb(error.__traceback__)
    where = f" (in {frames[-1].name}, {frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{where}"


def is_disk_full(error: BaseException) -> bool:
    """safetensors and torch.save report it in their own ways, Python by the number."""
    text = str(error).lower()
    return (
        (isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT))
        or "no space left on device" in text
        or "os error 28" in text
        or ("pytorchstreamwriter" in text and "fail" in text)
    )


def _leave(paths: Paths, code: int, reason: str, details: str = "") -> NoReturn:
    """Write the failure file (the first cause wins) and end with this exit code."""
    reason = redact(reason)
    if details:
        sys.stderr.write(redact(details))
    if code != EXIT_STOPPED:
        write_failure(paths, reason)
    elif not is_worker():
        give_back(paths)
    if not is_worker():
        end_left_open(paths, "KILLED" if code == EXIT_STOPPED else "FAILED")
    leave(code, f"{'stopped' if code == EXIT_STOPPED else 'error'}: {reason}")


def _say(text: str) -> None:
    if not is_worker():  # the process that started the workers has said it
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
