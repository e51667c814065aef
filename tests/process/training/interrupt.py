"""Stops jobs at random moments, over and over, and compares their losses with an untouched run's.

    python tests/process/training/interrupt.py [--rounds 20] [--seed 1] [--kill 0.3]

Each round starts a job, signals it at a random moment (SIGTERM, or SIGKILL with probability
`--kill`), starts it again, and so on up to three times; then it lets it end. What must hold: a
SIGTERM gives 143 (0 if it came when the work was done) within the grace time, no failure file, and
in the end the same losses at the same steps, the same evaluations and test scores.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from conftest import WORDS, Base, lay_out, save_tokenizer

COMMON = {"report_to": "none", "logging_steps": 3, "num_train_epochs": 3}
CLASSIFY = {**COMMON, "method": "text-classification", "learning_rate": 0.005}
SFT = {
    **COMMON,
    "method": "sft",
    "max_length": 32,
    "packing": True,
    "use_peft": True,
    "lora_dropout": 0.2,
    "learning_rate": 0.01,
    "gradient_accumulation_steps": 2,
    "per_device_train_batch_size": 2,
    "eval_strategy": "steps",
    "eval_steps": 7,
}


def models(folder: Path) -> dict[str, Path]:
    """A tiny BERT with dropout and a tiny Llama."""
    import transformers as tf

    size: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    for name, kind, auto in (
        ("bert", tf.BertConfig, tf.AutoModel),
        ("llama", tf.LlamaConfig, tf.AutoModelForCausalLM),
    ):
        words = save_tokenizer(folder / name)
        tf.set_seed(0)
        config = kind(vocab_size=words, intermediate_size=64, pad_token_id=0, **size)
        auto.from_config(config).save_pretrained(folder / name)
    return {"text-classification": folder / "bert", "sft": folder / "llama"}


def rows(method: str, count: int, seed: int) -> list[dict[str, Any]]:
    """Texts of 2 to 20 words; the class is the parity of the last word."""
    chance = random.Random(seed)
    made = []
    for _ in range(count):
        words = chance.choices(range(40), k=chance.randint(2, 20))
        row: dict[str, Any] = {"text": " ".join(WORDS[i] for i in words)}
        if method != "sft":
            row["label"] = "odd" if words[-1] % 2 else "even"
        made.append(row)
    return made


def new_job(folder: Path, settings: dict[str, Any], model: Path) -> Base:
    method = settings["method"]
    data = {s: rows(method, n, i) for i, (s, n) in enumerate(SIZES.items())}
    return lay_out(folder, settings, **data, model=model)


SIZES = {"train": 240, "validation": 48, "test": 400}


def signalled(job: Base, chance: random.Random, seconds: float, kill: float) -> str:
    """Run the job until a random moment; returns what happened, or raises AssertionError."""
    process = job.start()
    number = signal.SIGKILL if chance.random() < kill else signal.SIGTERM
    moment = chance.uniform(0, seconds)
    if chance.random() < 0.5:  # most of the time is imports: aim at the work as well
        lines = chance.randint(4, 40)
        for _ in range(lines):
            if not process.stdout.readline():
                break
        moment = chance.uniform(0, 0.2)
    try:
        output, _ = process.communicate(timeout=moment)
        return "ended before" if process.returncode == 0 else fail(process, output)
    except subprocess.TimeoutExpired:
        process.send_signal(number)
    begun = time.monotonic()
    output, _ = process.communicate(timeout=130)
    took = time.monotonic() - begun
    last = (output.strip().splitlines() or ["(nothing)"])[-1]
    if number == signal.SIGTERM and process.returncode not in (143, -15, 0):
        fail(process, output)
    assert job.failure == "", job.failure
    return f"{number.name} code {process.returncode} after {took:.1f} s: {last[:90]}"


def fail(process: subprocess.Popen[str], output: str) -> str:
    raise AssertionError(f"code {process.returncode}:\n{output}")


def compare(job: Base, whole: Base) -> None:
    """Same steps, same losses, same evaluations, same test scores."""
    for key in ("loss", "eval_loss"):
        mine = {r["step"]: r[key] for r in job.log if key in r}
        theirs = {r["step"]: r[key] for r in whole.log if key in r}
        assert mine.keys() == theirs.keys(), (key, sorted(mine), sorted(theirs))
        for step, value in theirs.items():
            assert abs(mine[step] - value) <= 1e-4 * abs(value), (key, step, mine[step], value)
    for key, value in whole.results.items():
        if not key.endswith(("runtime", "second")):
            assert abs(job.results[key] - value) <= 1e-4 * abs(value), (key, job.results, value)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kill", type=float, default=0.3)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    failures = 0
    with tempfile.TemporaryDirectory() as name:
        base = models(Path(name))
        whole: dict[str, tuple[Base, float]] = {}
        for settings in (CLASSIFY, SFT):
            job = new_job(Path(name) / settings["method"], settings, base[settings["method"]])
            begun = time.monotonic()
            code, output = job.train()
            assert code == 0, output
            whole[settings["method"]] = (job, time.monotonic() - begun)
        for number in range(options.rounds):
            settings = (CLASSIFY, SFT)[number % 2]
            method = settings["method"]
            job = new_job(Path(name) / f"round-{number}", settings, base[method])
            try:
                for _ in range(chance.randint(1, 3)):
                    said = signalled(job, chance, whole[method][1], options.kill)
                    print(f"{number} {method}: {said}", flush=True)
                code, output = job.train()
                assert code == 0, output
                compare(job, whole[method][0])
                print(f"{number} {method}: same as the untouched run", flush=True)
            except (AssertionError, subprocess.TimeoutExpired) as error:
                failures += 1
                print(f"{number} {method}: FAILED {error}", flush=True)
    print(f"{options.rounds - failures} of {options.rounds} rounds passed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
