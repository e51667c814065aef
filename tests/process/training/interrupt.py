"""Stops jobs at random moments, over and over, and compares their losses with an untouched run's.

    python tests/process/training/interrupt.py [--rounds 20] [--seed 1] [--kill 0.4]
        [--jobs sft grpo …] [--moments save export …] [--folder FOLDER]

Each round starts a job, signals it (SIGTERM, or SIGKILL to all its processes with probability
`--kill`), starts it again, and so on up to three times; then it lets it end. The moment is aimed
at: the start, a step, while a checkpoint's files are being written, an evaluation, the test
evaluation, the export. Some restarts find the checkpoints alone, as a new container does.

What must hold: a SIGTERM gives 143 (0 if it came when the work was done) within the grace time, no
failure file, the model directory has all its files or none, and in the end the same losses at the
same steps, the same evaluations and test scores. `--folder` keeps the untouched runs for later.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "helpers"))

from conftest import VOCABULARY, save_tokenizer
from training_jobs import Base, lay_out

from sm_train.loop.checkpoints import last_complete, step_of

GRACE_SECONDS = 115
MOMENTS = ("start", "step", "save", "eval", "test", "export")
COMMON = {
    "report_to": "none",
    "logging_steps": 3,
    "learning_rate": 0.01,
    "per_device_eval_batch_size": 2,
}
STEPS = {"eval_strategy": "steps", "eval_steps": 6}
SMALL = {**COMMON, **STEPS, "per_device_train_batch_size": 2, "max_steps": 30}
ONLINE = {"num_generations": 2, "num_generations_eval": 2, "max_completion_length": 8}
LORA = {"use_peft": True, "lora_dropout": 0.2}
JOBS: dict[str, dict[str, Any]] = {
    "classify": {**COMMON, "method": "text-classification", "num_train_epochs": 3},
    "sft": {
        **COMMON,
        **STEPS,
        **LORA,
        "method": "sft",
        "max_length": 32,
        "packing": True,
        "num_train_epochs": 3,
        "gradient_accumulation_steps": 2,
        "per_device_train_batch_size": 2,
    },
    "two-processes": {**SMALL, "method": "sft", "num_processes": 2},
    "dpo": {**SMALL, **LORA, "method": "dpo", "export": "both"},
    "kto": {**SMALL, "method": "kto", "save_strategy": "steps", "save_steps": 6},
    "reward": {**SMALL, "method": "reward", "early_stopping_patience": 20},
    "grpo": {
        **SMALL,
        **ONLINE,
        "method": "grpo",
        "reward_funcs": "length",
        "reward_length": 4,
        "steps_per_generation": 4,
        "num_iterations": 2,
        "beta": 0.1,
        "save_strategy": "steps",
        "save_steps": 5,
    },
    "rloo": {**SMALL, **ONLINE, "method": "rloo", "reward_funcs": "length", "reward_length": 4},
    "embedding": {
        **COMMON,
        "method": "embedding",
        "num_train_epochs": 3,
        "per_device_train_batch_size": 16,
        "learning_rate": 0.001,
    },
    "embedding-scores": {**SMALL, "method": "embedding", "learning_rate": 0.001},
    "no-checkpoints": {**SMALL, "method": "sft", "save_strategy": "no"},
}
SIZES = {"train": 240, "validation": 48, "test": 400}


def models(folder: Path) -> dict[str, Path]:
    """A tiny BERT with dropout and a tiny Llama."""
    import transformers as tf

    size: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    for name, kind, auto in (
        ("bert", tf.BertConfig, tf.AutoModel),
        ("llama", tf.LlamaConfig, tf.AutoModelForCausalLM),
    ):
        if (folder / name).is_dir():
            continue
        vocabulary = save_tokenizer(folder / name)
        tf.set_seed(0)
        config = kind(vocab_size=vocabulary, intermediate_size=64, pad_token_id=0, **size)
        auto.from_config(config).save_pretrained(folder / name)
    return {"bert": folder / "bert", "llama": folder / "llama"}


def rows(name: str, count: int, seed: int) -> list[dict[str, Any]]:
    """Texts of 2 to 20 words, in the columns of the job's method."""
    chance = random.Random(seed)
    method = name if name == "embedding-scores" else JOBS[name]["method"]
    made: list[dict[str, Any]] = []
    for number in range(count):
        tokens = chance.choices(range(40), k=chance.randint(2, 20))
        text = " ".join(VOCABULARY[i] for i in tokens)
        made.append(
            {
                "text-classification": {"text": text, "label": "odd" if tokens[-1] % 2 else "even"},
                "sft": {"text": text},
                "dpo": {"prompt": text, "chosen": "good fine", "rejected": "bad dull"},
                "reward": {"chosen": f"{text} good", "rejected": f"{text} bad w{number % 40}"},
                "embedding": {"anchor": text, "positive": " ".join(reversed(text.split()))},
                "embedding-scores": {"sentence1": text, "sentence2": "w1", "score": number % 3},
                "kto": {"prompt": text, "completion": "good fine", "label": number % 2 == 0},
            }.get(method, {"prompt": text})
        )
    return made


def new_job(folder: Path, name: str, base: dict[str, Path]) -> Base:
    settings = JOBS[name]
    # The others are slower by the row, and are to see more than one epoch as well.
    small = (
        1 if name in ("classify", "sft", "embedding") else 30 if name in ("grpo", "rloo") else 10
    )
    data = {s: rows(name, max(n // small, 8), i) for i, (s, n) in enumerate(SIZES.items())}
    encoder = settings["method"] in ("text-classification", "embedding")
    model = base["bert" if encoder else "llama"]
    shutil.rmtree(folder, ignore_errors=True)
    return lay_out(folder, settings, **data, model=model)


@dataclass
class Watched:
    """A running job and the lines that it has written so far."""

    job: Base
    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)

    @property
    def output(self) -> str:
        return "".join(self.lines)

    def wait_until(self, happened: Any) -> bool:
        """Look every millisecond; False when the job ends first."""
        while self.process.poll() is None:
            if happened():
                return True
            time.sleep(0.001)
        return False

    def count(self, text: str) -> int:
        return sum(text in line for line in list(self.lines))

    def end(self, seconds: float) -> None:
        self.process.wait(timeout=seconds)
        self.reader.join(timeout=10)


def wait_for(watched: Watched, moment: str, chance: random.Random, start_seconds: float) -> None:
    """Return when the moment has come; or when the job has ended without it."""
    job = watched.job
    if moment == "start":
        time.sleep(chance.uniform(0, start_seconds))
    elif moment == "step":
        wanted = chance.randint(1, 8)
        watched.wait_until(lambda: watched.count(" loss=") >= wanted)
        time.sleep(chance.uniform(0, 0.2))
    elif moment == "save":
        newest = max(map(step_of, job.checkpoints.glob("checkpoint-*")), default=-1)
        wanted = newest + chance.choice((1, 1, 7, 13))
        watched.wait_until(lambda: any(step_of(p) >= wanted for p in folders(job)))
        time.sleep(chance.uniform(0, 0.08))
    elif moment == "eval":
        # The log event of a step comes just before its evaluation.
        wanted = chance.randint(1, 6)
        due = [f"step={s} " for s in range(6, 91, 3) if s % 6 == 0 or s % 15 == 0][wanted:]
        watched.wait_until(lambda: any(line.startswith(s) for line in watched.lines for s in due))
        time.sleep(chance.uniform(0, 0.3))
    elif moment == "test":
        watched.wait_until(lambda: watched.count("train_runtime="))
        time.sleep(chance.uniform(0, 0.6))
    else:
        watched.wait_until(lambda: (job.model / ".writing").exists())
        time.sleep(chance.choice((0, chance.uniform(0, 0.05), chance.uniform(0, 0.5))))


def folders(job: Base) -> list[Path]:
    return list(job.checkpoints.iterdir()) if job.checkpoints.is_dir() else []


def signalled(
    job: Base, moment: str, chance: random.Random, start_seconds: float, kill: float
) -> str:
    """Run the job until that moment; returns what happened, or raises AssertionError."""
    watched = Watched(job, job.start())
    number = signal.SIGKILL if chance.random() < kill else signal.SIGTERM
    wait_for(watched, moment, chance, start_seconds)
    begun = time.monotonic()
    if number == signal.SIGKILL:
        kill_all(watched.process.pid)
    else:
        watched.process.send_signal(number)
    watched.end(GRACE_SECONDS)
    took, code = time.monotonic() - begun, watched.process.returncode
    assert code in ((-9, 0) if number == signal.SIGKILL else (143, -15, 0)), watched.output
    assert job.failure == "", job.failure
    assert (job.model / "config.json").exists() or not (job.model / "README.md").exists() or code
    kept = last_complete(job.checkpoints)
    last = (watched.lines or ["(nothing)\n"])[-1].strip()
    return (
        f"{moment}: {number.name} code {code} after {took:.1f} s, "
        f"{kept.name if kept else 'no checkpoint'}: {last[:70]}"
    )


def kill_all(parent: int) -> None:
    """SIGKILL to a process and all that it started, as the end of a container does."""
    try:
        os.kill(parent, signal.SIGSTOP)
        family = [parent]
        for process in family:
            for task in Path(f"/proc/{process}/task").glob("*/children"):
                family += [int(child) for child in task.read_text().split()]
        for process in family:
            os.kill(process, signal.SIGKILL)
    except (ProcessLookupError, FileNotFoundError):
        return


def compare(job: Base, whole: Base) -> None:
    """Same steps, same losses, same evaluations, same test scores."""
    keys = ("loss", "eval_loss", "grad_norm", "reward", "num_tokens", "learning_rate")
    for key in keys:
        mine = {r["step"]: r[key] for r in job.log if key in r and not key.startswith("test")}
        theirs = {r["step"]: r[key] for r in whole.log if key in r}
        assert mine.keys() == theirs.keys(), (key, sorted(mine), sorted(theirs))
        for step, value in theirs.items():
            assert close(mine[step], value), (key, step, mine[step], value)
    assert job.results.keys() == whole.results.keys(), (job.results, whole.results)
    assert job.results.get("test_sha256") == whole.results.get("test_sha256")
    for key, value in whole.results.items():
        if not key.endswith(("runtime", "second", "step_time", "sha256")):
            assert close(job.results[key], value), (key, job.results[key], value)
    mine, theirs = (
        {str(p.relative_to(b.model)): p.stat().st_size for p in b.model.rglob("*.safetensors")}
        for b in (job, whole)
    )
    assert mine == theirs, (mine, theirs)


def close(one: float, other: float) -> bool:
    return abs(one - other) <= 1e-4 * abs(other) + 1e-7


def whole_run(folder: Path, name: str, base: dict[str, Path]) -> tuple[Base, float]:
    """The untouched run, and how long it takes to its first step."""
    job = Base(folder / "whole" / name)
    mark = job.path / "seconds"
    if not mark.is_file():
        job = new_job(job.path, name, base)
        begun = time.monotonic()
        watched = Watched(job, job.start())
        watched.wait_until(lambda: watched.count(" loss="))
        seconds = time.monotonic() - begun
        watched.end(300)
        assert watched.process.returncode == 0, watched.output
        mark.write_text(str(seconds))
    return job, float(mark.read_text())


def one_round(
    number: int, name: str, folder: Path, base: dict[str, Path], options: Any, chance: random.Random
) -> None:
    """Signal, start again, …, let it end, compare."""
    whole, start_seconds = whole_run(folder, name, base)
    job = new_job(folder / f"round-{number}", name, base)
    for _ in range(chance.randint(1, 3)):
        moment = chance.choice(options.moments)
        said = signalled(job, moment, chance, start_seconds, options.kill)
        print(f"{number} {name}: {said}", flush=True)
        if chance.random() < 0.5:  # a new container has the checkpoints alone
            shutil.rmtree(job.path / "output", ignore_errors=True)
            shutil.rmtree(job.model, ignore_errors=True)
    code, output = job.train()
    assert code == 0, output
    compare(job, whole)
    print(f"{number} {name}: same as the untouched run", flush=True)
    shutil.rmtree(job.path)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kill", type=float, default=0.4)
    parser.add_argument("--jobs", nargs="+", default=list(JOBS), choices=list(JOBS))
    parser.add_argument("--moments", nargs="+", default=list(MOMENTS), choices=MOMENTS)
    parser.add_argument("--folder", type=Path, help="keeps the untouched runs and failed rounds")
    options = parser.parse_args()
    chance = random.Random(options.seed)
    failures = 0
    with tempfile.TemporaryDirectory() as name:
        folder = options.folder or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        base = models(folder)
        for index in range(options.rounds):
            number, job = options.seed * 1000 + index, options.jobs[index % len(options.jobs)]
            try:
                one_round(number, job, folder, base, options, chance)
            except (AssertionError, subprocess.TimeoutExpired) as error:
                failures += 1
                print(f"{number} {job}: FAILED {error}", flush=True)
    print(f"{options.rounds - failures} of {options.rounds} rounds passed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
