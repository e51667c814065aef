"""What SAGEMAKER_TRAINING_MODULE names: the job's files in, a model or a failure file out.

The toolkit calls `main` in its own process. Everything that a user can get wrong is checked before
torch is imported: that takes milliseconds, the import seconds.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from typing import NoReturn

from sm_train.checkpoints import check_disk, model_bytes, needed_bytes
from sm_train.config import Config, load_config
from sm_train.contract import (
    EXIT_STOPPED,
    FAILURE_CHARACTERS,
    Paths,
    check_input_modes,
    read_cluster,
)
from sm_train.data import Data, load_data
from sm_train.errors import StoppedBySignalError, UserError, WorkerFailedError
from sm_train.job import Job
from sm_train.launch import is_worker, launch_workers, process_count
from sm_train.model import resolve_base_model
from sm_train.stopping import StopRequest
from sm_train.user_script import ScriptFailedError, has_user_script, run_user_script

EXIT_FAILED = 1


def main() -> None:
    """Run the job that the base directory describes; exits non-zero unless it succeeded."""
    started = time.time()
    paths = Paths.from_environment()
    stop = StopRequest()
    try:
        if has_user_script(paths):
            run_user_script()
            return
        stop.install()
        run(paths, stop, started)
    except StoppedBySignalError as stopped:
        _leave(paths, EXIT_STOPPED, str(stopped))
    except ScriptFailedError as error:
        _leave(paths, error.code, str(error))
    except (UserError, WorkerFailedError) as error:
        _leave(paths, EXIT_FAILED, str(error))
    except Exception as error:
        _leave(paths, EXIT_FAILED, describe_crash(error), traceback.format_exc())


def run(paths: Paths, stop: StopRequest, started: float) -> None:
    """Check everything, then train here or in worker processes."""
    check_input_modes(paths)
    config = load_config(paths)
    os.environ.update(config.environment)
    for warning in config.warnings:
        _say(f"warning: {warning}")
    cluster = read_cluster(paths)
    source = resolve_base_model(paths, config)
    data = load_data(paths, config)
    _say_what_was_read(data)
    if not is_worker():
        check_disk(paths, _disk_need(config, source))
        processes = process_count(config.job.num_processes)
        if processes * len(cluster.hosts) > 1:
            launch_workers(cluster, processes, stop)
            return
    job = Job(paths, config, data, source, stop, started)
    from sm_train.banner import print_banner, quiet_libraries

    quiet_libraries()
    print_banner(job)
    config.method.train(job)


def _disk_need(config: Config, source: str) -> int:
    kept = int(config.training.get("save_total_limit") or 2)
    return needed_bytes(model_bytes(source), lora=config.model.use_peft, checkpoints=kept)


def _say_what_was_read(data: Data) -> None:
    for split in ("train", "validation", "test"):
        rows = data.split(split)
        if rows is not None:
            bad = data.rejected.get(split, 0)
            kept = f", {bad} bad ones set aside in output/data/rejected.jsonl" if bad else ""
            _say(f"channel {split}: {len(rows)} rows{kept}")


def describe_crash(error: BaseException) -> str:
    """The cause first, then where: FailureReason shows only the beginning."""
    if "out of memory" in str(error).lower():
        return (
            f"out of memory: {str(error).splitlines()[0]} Fix: halve per_device_train_batch_size "
            "and double gradient_accumulation_steps, lower max_length, or set use_peft to true."
        )
    if isinstance(error, OSError) and error.errno == 28:
        return (
            f"the disk is full: {error}. The last complete checkpoint is intact. "
            "Fix: raise VolumeSizeInGB or lower save_total_limit."
        )
    frames = traceback.extract_tb(error.__traceback__)
    where = f" (in {frames[-1].name}, {frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{where}"


def _leave(paths: Paths, code: int, reason: str, details: str = "") -> NoReturn:
    """Write the failure file (the first cause wins) and end with this exit code.

    The toolkit would replace the file by a traceback and the code by 1, so it gets no say.
    """
    if details:
        sys.stderr.write(details)
    sys.stderr.write(f"{'stopped' if code == EXIT_STOPPED else 'error'}: {reason}\n")
    if code != EXIT_STOPPED:
        write_failure(paths, reason)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def write_failure(paths: Paths, reason: str) -> None:
    """Keep the first reason: with several processes the others only report its consequences."""
    paths.failure.parent.mkdir(parents=True, exist_ok=True)
    try:
        with paths.failure.open("x", encoding="utf-8") as file:
            file.write(reason[:FAILURE_CHARACTERS])
    except FileExistsError:
        return


def _say(text: str) -> None:
    if not is_worker() or os.environ.get("RANK") == "0":
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
