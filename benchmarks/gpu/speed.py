"""How fast it is: model FLOPs utilisation, tokens a second against TRL's defaults, serving."""

from __future__ import annotations

import argparse
import random
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import training
from jobs import SMALL, WORK, ask, base_model, served, text, vocabulary_size

_TARGETS = {"mfu": 0.45, "against_trl_defaults": 1.5}
_LENGTH = 2048


def _options(shape: str, **others: Any) -> argparse.Namespace:
    """What benchmarks/training.py measures by."""
    plain = {
        "model": "tiny" if SMALL else shape,
        "steps": 4 if SMALL else 12,
        "max_length": 64 if SMALL else _LENGTH,
        "logging_steps": 1 if SMALL else 4,
        "batch": 2 if SMALL else 8,
        "lora": False,
        "dtype": None,
        "no_recomputation": False,
    }
    return argparse.Namespace(**{**plain, **others})


def _work(name: str, options: argparse.Namespace, *, full: bool) -> tuple[Path, int]:
    """The benchmark's folder and the number of the model's parameters."""
    folder = WORK / "speed" / name
    folder.mkdir(parents=True)
    source = base_model(options.model)
    (folder / "model").symlink_to(source)
    training.write_rows(
        folder / "data" / "train.jsonl", 64 if SMALL else 512, options.max_length,
        vocabulary_size(options.model), full=full,
    )  # fmt: skip
    size = sum(path.stat().st_size for path in source.glob("*.safetensors"))
    return folder, size // 2  # bfloat16


def utilisation(shape: str, *, lora: bool, batch: int) -> dict[str, Any]:
    """Model FLOPs utilisation with 2,048 tokens in every row, and the peak of memory."""
    options = _options(shape, lora=lora, batch=2 if SMALL else batch)
    if not lora:
        options.dtype = "bfloat16"
    folder, parameters = _work(f"{shape}-{'lora' if lora else 'full'}", options, full=True)
    # What is measured ends with the last step: whole models of 16 GB would fill the disk.
    run = training.run_ours(folder, options, **({"export": "adapter"} if lora else {}))
    shutil.rmtree(folder)
    figures: dict[str, Any] = {"parameters": parameters, **asdict(run)}
    gpu = training.stack()["gpu"]
    peak = next((v for k, v in training.PEAKS.items() if gpu and k in gpu), None)
    if peak:
        done = run.tokens_per_second * training.flops_per_token(parameters, options)
        figures |= {"gpu": gpu, "mfu": round(done / peak, 4), "target_mfu": _TARGETS["mfu"]}
    return figures


def against_trl() -> dict[str, Any]:
    """Tokens a second of ours against TRL's script by its defaults, on rows of skewed length."""
    options = _options("1b", lora=True)
    folder, _ = _work("against-trl", options, full=False)
    theirs = training.run_script(folder, options, matched=False)
    ours = training.run_ours(folder, options)
    shutil.rmtree(folder)
    return {
        "ours": asdict(ours),
        "trl_defaults": asdict(theirs),
        "ratio": round(ours.tokens_per_second / theirs.tokens_per_second, 3),
        "target": _TARGETS["against_trl_defaults"],
    }


def serving(engine: str) -> dict[str, Any]:
    """Tokens a second at 1, 16 and 64 clients."""
    model = base_model("1b")
    chance, figures = random.Random(4), {}
    tokens = 4 if SMALL else 128
    environment = {"SM_SERVE_ENGINE": engine, "SM_SERVE_MAX_IN_FLIGHT": "64"}
    with served(f"speed-{engine}", model, "generation", **environment) as (target, ready):
        for clients in (1, 2) if SMALL else (1, 16, 64):
            count = max(2, 2 * clients)
            bodies = [
                {
                    "inputs": text(chance, 5 if SMALL else 100, vocabulary_size("1b")),
                    "parameters": {"max_new_tokens": tokens, "ignore_eos_token": True},
                }
                for _ in range(count)
            ]
            ask(target, bodies[:clients], clients)  # warm
            _, seconds = ask(target, bodies, clients)
            figures[f"tokens_per_second_{clients}_clients"] = round(count * tokens / seconds, 1)
    return {"ready_seconds": ready, **figures}
