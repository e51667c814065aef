"""Each of our speed defaults against the same job without it, on the machine at hand.

    python benchmarks/training_defaults.py                      # a small Llama on a CPU
    python benchmarks/training_defaults.py --model 1b --lora    # where a GPU is

Every pair is `train` twice, with one hyperparameter between them: the default, and the other value.
`faster` is the default's tokens per second (padding is not counted) divided by the other's; below 1
the default is wrong here. `final_loss` is that of the last log event of each: the tests in
tests/process/training/test_speed_defaults.py say what must be equal, this shows it at size.
"""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness import begin, in_turn, ratio, spreads, write
from training import Run, arguments, base_and_rows, run_ours, stack


def pairs() -> dict[str, dict[str, str]]:
    """Default's name to what switches it off; only what is a default on this machine."""
    import torch
    from transformers.utils import is_flash_attn_2_available, is_flash_attn_3_available

    from sm_train.modelling.model import has_bf16

    gpu = torch.cuda.is_available()
    changes = {"no_packing": {"packing": "true"}}
    if gpu and (is_flash_attn_2_available() or is_flash_attn_3_available()):
        changes["rows_without_padding"] = {"padding_free": "false"}
        changes["flash_attention"] = {"attn_implementation": "sdpa"}
    else:
        changes["rows_of_like_length"] = {"train_sampling_strategy": "random"}
    if has_bf16():
        changes["bf16"] = {"bf16": "false"}
    if gpu and importlib.util.find_spec("liger_kernel"):
        changes["liger_kernel"] = {"use_liger_kernel": "false"}
    if not gpu:
        changes["no_recomputation"] = {"activation_checkpointing": "true"}
    return changes


def measure(
    work: Path, options: argparse.Namespace, changes: dict[str, dict[str, str]]
) -> dict[str, list[Run]]:
    """The runs of the defaults, and of each change by its name, taken in turn."""
    base_and_rows(work, options)
    contenders = {"defaults": lambda: run_ours(work, options)}
    for name, change in changes.items():
        contenders[name] = lambda change=change: run_ours(work, options, **change)
    return in_turn(contenders, options.rounds)


def compared(runs: dict[str, list[Run]], name: str, change: dict[str, str]) -> dict[str, Any]:
    """One default against the run without it."""
    figures: dict[str, Any] = {"without": change}
    for key, figure in (
        ("faster", "tokens_per_second"),
        ("faster_per_cpu_second", "tokens_per_cpu_second"),
    ):
        ours, others = ([getattr(run, figure) for run in runs[n]] for n in ("defaults", name))
        figures[key] = ratio(ours, others)
    return figures


def main() -> None:
    options = arguments(__doc__, "training_defaults", batch=8, logging_steps=6)
    machine = begin(options)
    changes = pairs()
    with tempfile.TemporaryDirectory() as folder:
        outcomes = measure(Path(folder), options, changes)
    write(
        options.output,
        {
            "machine": {**machine, **stack()},
            "settings": {**vars(options), "output": None},
            "defaults": {name: compared(outcomes, name, changes[name]) for name in changes},
            "runs": {
                name: spreads([asdict(run) for run in runs]) for name, runs in outcomes.items()
            },
        },
    )


if __name__ == "__main__":
    main()
