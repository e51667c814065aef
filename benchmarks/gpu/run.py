"""Everything that needs a GPU, in one run of under 12 minutes: what is riskiest first, then speed.

    python benchmarks/gpu/run.py --out DIR [--wheels FOLDER]     # a bare machine with CUDA PyTorch
    python benchmarks/gpu/run.py --out DIR --cpu                 # every step, small, on a CPU
    python benchmarks/gpu/run.py --dry-run                       # what would run, what is missing

Each step is a process of its own with a limit of time. When it ends, a line is added to
DIR/results.jsonl (step, ok or skipped or failed, seconds, figures), its output to DIR/log.txt. What
is cut short has told all that it knows. A failed step does not end the run, but the exit code
is then 1. `--only` and `--skip` choose steps; one that lacks a package is skipped by name.

`--wheels` names a folder of wheels for what the machine lacks (benchmarks/gpu/wheels.py fills one
on a machine with a network); they are unpacked beside, and what is installed stays as it is.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(Path(__file__).parent), str(ROOT / "benchmarks")]
sys.path += [str(ROOT / "containers" / name) for name in ("train", "serve")]

from steps import STEPS, Step, perform  # noqa: E402

from sm_train.platform.devices import gpu_count  # noqa: E402

BUDGET_SECONDS = 690
_LEAST_SECONDS = 20  # no step is worth beginning with less
_SLOWER = 4  # a busy CPU of a test machine
_KEPT_LOG = 400_000  # characters of a step's output


def main() -> int:
    """Run the steps in order; 0 when none failed."""
    options = _options()
    out: Path = options.out
    environment = _environment(options, Path(tempfile.mkdtemp(prefix="gpu-run-")))
    chosen = [step for step in STEPS if _is_chosen(step, options)]
    if options.dry_run:
        for step in chosen:
            print(
                f"{step.name:14} {step.limit:4} s  {_reason(step, options, environment) or 'runs'}"
            )
        return 0
    if not options.cpu and not gpu_count():
        raise SystemExit("the driver shows no GPU: look at nvidia-smi, or give --cpu for a dry run")
    out.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + options.budget
    failed = 0
    for step in chosen:
        left = end - time.monotonic()
        reason = _reason(step, options, environment)
        if reason is None and left < _LEAST_SECONDS:
            reason = "no time is left"
        if reason:
            record: dict[str, Any] = {"step": step.name, "status": "skipped", "reason": reason}
        else:
            limit = step.limit * (_SLOWER if options.cpu else 1)
            record = _run(step, min(limit, left), options, environment)
        failed += record["status"] == "failed"
        with (out / "results.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        print(json.dumps(record), flush=True)
    return 1 if failed else 0


def _options() -> argparse.Namespace:
    names = [step.name for step in STEPS]
    made = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    made.add_argument("--out", type=Path, default=Path("build/gpu-run"))
    made.add_argument("--wheels", type=Path, help="folder of wheels for what is not installed")
    made.add_argument("--only", nargs="+", choices=names, default=[], metavar="STEP")
    made.add_argument("--skip", nargs="+", choices=names, default=[], metavar="STEP")
    made.add_argument("--budget", type=float, default=BUDGET_SECONDS, help="seconds for all steps")
    made.add_argument("--cpu", action="store_true", help="small models on the CPU")
    made.add_argument("--dry-run", action="store_true", help="only say what would run")
    return made.parse_args()


def _is_chosen(step: Step, options: argparse.Namespace) -> bool:
    return step.name not in options.skip and (not options.only or step.name in options.only)


def _reason(step: Step, options: argparse.Namespace, environment: dict[str, str]) -> str | None:
    """Why a step cannot run here; None when it can."""
    if options.cpu and step.gpu_only:
        return f"needs {step.gpu_only}"
    wanted = step.packages if options.cpu else (*step.packages, *step.gpu_packages)
    missing = [name for name in wanted if not _is_there(name, environment)]
    if missing:
        return f"{', '.join(missing)} not installed"
    if step.gpus > 1 and not options.cpu and gpu_count() < step.gpus:
        return f"needs {step.gpus} GPUs"
    return None


def _is_there(name: str, environment: dict[str, str]) -> bool:
    places = environment["PYTHONPATH"].split(":")
    return importlib.util.find_spec(name) is not None or any(
        (Path(place) / name).exists() for place in places
    )


def _environment(options: argparse.Namespace, work: Path) -> dict[str, str]:
    """Our code, then the wheels, then what is installed. Without a GPU none is looked for."""
    places = [ROOT / "containers" / "train", ROOT / "containers" / "serve"]
    if options.wheels:
        places.append(_unpacked(options.wheels, work / "packages"))
    here = os.environ.get("PYTHONPATH")
    made = {
        **os.environ,
        "PYTHONPATH": ":".join([*map(str, places), *([here] if here else [])]),
        "GPU_RUN_WORK": str(work),
        "HF_HUB_OFFLINE": "1",
        "PYTHONUNBUFFERED": "1",
    }
    if options.cpu:
        made |= {
            "CUDA_VISIBLE_DEVICES": "",
            "GPU_RUN_CPU": "1",
            "OMP_NUM_THREADS": "1",  # threads and forks do not mix
            "TOKENIZERS_PARALLELISM": "false",
        }
    return made


def _unpacked(wheels: Path, folder: Path) -> Path:
    """The wheels' contents; a wheel is a zip archive whose root is what is imported."""
    for wheel in sorted(wheels.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
    return folder


def _run(
    step: Step, limit: float, options: argparse.Namespace, environment: dict[str, str]
) -> dict[str, Any]:
    """One step in a process group of its own, which ends with it."""
    answer = Path(environment["GPU_RUN_WORK"]) / f"{step.name}.json"
    log = options.out / "log.txt"
    begun = time.monotonic()
    with log.open("a", encoding="utf-8") as stream:
        stream.write(f"\n===== {step.name}\n")
        stream.flush()
        start = stream.tell()
        begin = _forked if options.cpu else _started
        process = begin(step, answer, stream.fileno(), environment)
        code = _wait(process, limit)
        _end(process)
    record = {"step": step.name, "status": "ok", "seconds": round(time.monotonic() - begun, 1)}
    if answer.exists():
        record |= {"figures": json.loads(answer.read_text(encoding="utf-8"))}
    if code != 0:
        why = f"it took over {limit:.0f} s" if code is None else f"it ended with code {code}"
        record |= {"status": "failed", "reason": f"{why}: {_last_words(log, start)}"}
    return record


def _started(step: Step, answer: Path, output: int, environment: dict[str, str]) -> int:
    """A new process; each step begins with an empty GPU."""
    return subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("steps.py")), step.name, str(answer)],
        env=environment,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ).pid


def _forked(step: Step, answer: Path, output: int, environment: dict[str, str]) -> int:
    """A child of this one, which has imported what takes most of a small step's time."""
    os.environ.update(environment)
    import datasets  # noqa: F401
    import jobs
    import torch
    import trl  # noqa: F401

    torch.set_num_threads(1)
    child = os.fork()
    if child == 0:
        os.setsid()
        jobs.redirect(output)
        jobs.run_and_leave(lambda: perform(step.name, answer))
    return child


def _wait(process: int, limit: float) -> int | None:
    """A child's exit code; None when it takes too long."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        pid, status = os.waitpid(process, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.1)
    return None


def _end(process: int) -> None:
    """What the step left running; its memory is the next one's."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(process, 0)


def _last_words(log: Path, start: int) -> str:
    with log.open("rb") as file:
        file.seek(start)
        text = file.read(_KEPT_LOG).decode("utf-8", "replace")
    return "\n".join(line for line in text.splitlines()[-8:] if line.strip())[-800:]


if __name__ == "__main__":
    sys.exit(main())
