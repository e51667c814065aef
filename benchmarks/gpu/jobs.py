"""Training jobs and servers of the GPU run: small models made from configs, real processes."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from serving import wait_until_right
from serving_load import run_load, write_post
from serving_targets import Target, base_dir, ours
from training import SHAPES, write_model

WORK = Path(os.environ.get("GPU_RUN_WORK", "build/gpu-run"))
SMALL = os.environ.get("GPU_RUN_CPU") == "1"
"""Whether this is a dry run: the same steps with a model of two layers on a CPU."""
_LOSS = re.compile(r"(?:^|\s)loss=([0-9.e+-]+)")


@dataclass
class Trained:
    """A job that succeeded."""

    folder: Path
    log: str
    seconds: float

    @property
    def model(self) -> Path:
        """The artefact."""
        return self.folder / "model"

    def losses(self) -> list[float]:
        """Of the log events, in order."""
        return [float(loss) for loss in _LOSS.findall(self.log)]

    def says(self, text: str) -> bool:
        """Whether the log has it."""
        return text in self.log

    def line(self, start: str) -> str:
        """The first line of the log that begins so."""
        return next((x for x in self.log.splitlines() if x.startswith(start)), "")


def base_model(shape: str, dtype: str = "bfloat16") -> Path:
    """A random Llama of that shape, made once a run; two layers of it in a dry run."""
    shape = "tiny" if SMALL else shape
    folder = WORK / "models" / f"{shape}-{dtype}"
    if not (folder / "config.json").exists():
        write_model(folder, shape, dtype)
    return folder


def vocabulary_size(shape: str) -> int:
    """The vocabulary of a shape."""
    return SHAPES["tiny" if SMALL else shape][-1]


def text(chance: random.Random, length: int, count: int) -> str:
    """Words of which some are much more frequent, so that there is something to learn."""
    return " ".join(f"w{3 + int((count - 4) * chance.random() ** 6)}" for _ in range(length))


def rows(kind: str, count: int, shape: str, length: int = 200) -> list[dict[str, Any]]:
    """Rows of a method, by its name."""
    chance, known = random.Random(5), vocabulary_size(shape)
    length = 16 if SMALL else length

    def some(share: float = 1.0) -> str:
        return text(chance, max(2, int(length * share * (0.5 + chance.random() / 2))), known)

    if kind == "dpo":
        return [{"prompt": some(0.3), "chosen": f" {some()}", "rejected": f" {some()}"}
                for _ in range(count)]  # fmt: skip
    if kind == "grpo":
        return [{"prompt": some(0.3), "answer": "w5"} for _ in range(count)]
    if kind == "text-classification":
        return [{"text": some(), "label": "ab"[i % 2]} for i in range(count)]
    return [{"prompt": some(0.3), "completion": f" {some()}"} for _ in range(count)]


def lay_out(name: str, model: Path, train: list[dict[str, Any]], settings: dict[str, Any]) -> Path:
    """A job's base directory."""
    folder = WORK / "jobs" / name
    config = folder / "input" / "config"
    config.mkdir(parents=True)
    data = folder / "input" / "data" / "train"
    data.mkdir(parents=True)
    (data / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in train))
    values = {"report_to": "none", "logging_steps": 1, **settings}
    values |= {"model_name_or_path": model}
    (config / "hyperparameters.json").write_text(
        json.dumps({key: str(value) for key, value in values.items()})
    )
    (config / "inputdataconfig.json").write_text('{"train": {}}')
    (config / "resourceconfig.json").write_text('{"current_host": "algo-1", "hosts": ["algo-1"]}')
    return folder


def start(folder: Path) -> Any:
    """The job in a process, as the container's toolkit calls it. Like subprocess.Popen.

    A dry run forks, so that libraries are imported once.
    """
    if SMALL:
        return Forked(folder)
    return subprocess.Popen(
        [sys.executable, "-m", "sm_train.entry"],
        env={**os.environ, "SAGEMAKER_BASE_DIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


class Forked:
    """A job in a child that has everything imported already."""

    def __init__(self, folder: Path) -> None:
        reader, writer = os.pipe()
        self.returncode: int | None = None
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(reader)
            redirect(writer)
            os.environ["SAGEMAKER_BASE_DIR"] = str(folder)
            run_and_leave(_entry)
        os.close(writer)
        self.stdout = os.fdopen(reader)

    def communicate(self) -> tuple[str, None]:
        """All that it wrote until its end."""
        text = self.stdout.read()
        self.wait()
        return text, None

    def wait(self) -> int:
        """Its exit code."""
        if self.returncode is None:
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Like Popen's."""
        os.kill(self.pid, number)


def _entry() -> None:
    from sm_train.entry import main

    main()


def redirect(descriptor: int) -> None:
    """Let this process write to a file or pipe, line by line."""
    for number in (1, 2):
        os.dup2(descriptor, number)
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)


def run_and_leave(function: Callable[[], None]) -> NoReturn:
    """Call it in a forked child, and end the child without its parent's clean-up."""
    import torch

    # A fork leaves torch's pool of threads broken. It is made anew at its next use: here, while
    # there is one thread, for two at once would find none ("Invalid thread pool!").
    torch.set_num_threads(1)
    code = 1
    try:
        function()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
        if code:
            sys.stderr.write(f"{ended.code}\n")
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def train(
    name: str, method: str, shape: str = "0.5b", *, model: Path | None = None, **settings: Any
) -> Trained:
    """Run a job to its end. SystemExit with its last words where it fails."""
    count = 16 if SMALL else 256
    source = model or base_model(shape)
    folder = lay_out(name, source, rows(method, count, shape), {"method": method, **settings})
    begun = time.perf_counter()
    process = start(folder)
    log, _ = process.communicate()
    print(log, flush=True)
    if process.returncode:
        raise SystemExit(f"the job {name} ended with {process.returncode}: {log[-700:]}")
    return Trained(folder, log, round(time.perf_counter() - begun, 1))


def stop_and_resume(name: str, method: str, **settings: Any) -> dict[str, Any]:
    """SIGTERM after a few steps, then the same job again."""
    source = base_model("0.5b")
    folder = lay_out(name, source, rows(method, 64, "0.5b"), {"method": method, **settings})
    process = start(folder)
    assert process.stdout is not None
    seen = ""
    for line in process.stdout:
        seen += line
        if "step=3 " in line:
            process.send_signal(signal.SIGTERM)
    stopped = process.wait()
    kept = sorted(path.name for path in (folder / "checkpoints").glob("checkpoint-*"))
    again = start(folder)
    log, _ = again.communicate()
    print(seen, log, flush=True)
    if again.returncode or "resuming from" not in log:
        raise SystemExit(f"did not resume: {stopped}, {again.returncode}: {log[-700:]}")
    return {"exit_after_sigterm": stopped, "checkpoints": kept}


def described(model: Path) -> dict[str, Any]:
    """Type and size of an artefact."""
    config = json.loads((model / "config.json").read_text())
    size = sum(path.stat().st_size for path in model.glob("*.safetensors"))
    return {"dtype": config.get("dtype"), "megabytes": round(size / 1e6, 1)}


def greedy(model: Path, prompts: list[str], tokens: int, dtype: str) -> list[str]:
    """What transformers itself answers."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer = AutoTokenizer.from_pretrained(model)
    loaded = AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, dtype)).to(device)
    answers = []
    for prompt in prompts:
        ids = tokenizer(prompt, return_tensors="pt")["input_ids"].to(device)
        with torch.inference_mode():
            made = loaded.generate(ids, max_new_tokens=tokens, min_new_tokens=tokens,
                                   do_sample=False)  # fmt: skip
        answers.append(tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True))
    del loaded
    if device == "cuda":
        torch.cuda.empty_cache()
    return answers


@contextlib.contextmanager
def served(name: str, model: Path, task: str, **environment: str) -> Iterator[tuple[Target, float]]:
    """Our server on a model, and the seconds that it took until its first right answer."""
    folder = WORK / "served" / name
    folder.mkdir(parents=True)
    target = ours(base_dir(folder, model), environment)
    log = WORK / f"served-{name}.log"
    try:
        with target.running(log) as process:
            _, ready = wait_until_right(target, task, process, log)
            yield target, round(ready, 1)
    finally:
        print(log.read_text()[-20_000:], flush=True)


def ask(target: Target, bodies: list[dict[str, Any]], clients: int) -> tuple[list[Any], float]:
    """The answers' JSON and the seconds for all of them."""
    load = run_load(target.port, [write_post(target.path, body) for body in bodies], clients)
    return [json.loads(reply.body) for reply in load.replies], load.wall
